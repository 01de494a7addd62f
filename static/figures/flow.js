// The ledger as one balanced picture: what was lost on the left flows to what was gained.

import { probability, probabilityChange } from "../lib/format.js";
import { faded, layout, tokenLabel } from "./frame.js";

/** A share of all that flows; what is smaller is drawn among all others. */
const SMALLEST_FLOW = 0.02;

/** From what was lost to what was gained. Mass has no identity, so each loser gives to each gainer
 *  in proportion to what that gained. {sources, targets: [{token, change, ...}], links}; a node
 *  whose token is null stands for all others. */
export function flows(ledger, top = 6) {
  const sum = (parts) => parts.reduce((total, entry) => total + entry.change, 0);
  const all = Math.max(Math.abs(sum(ledger.gainers) + Math.max(0, ledger.rest)), 1e-12);
  const least = SMALLEST_FLOW * all;
  const gather = (entries, rest) => {
    const kept = entries.slice(0, top).filter((entry) => Math.abs(entry.change) >= least);
    const others = sum(entries.slice(kept.length)) + rest;
    return Math.abs(others) > 1e-9 ? [...kept, { token: null, change: others }] : kept;
  };
  const sources = gather(ledger.losers, Math.min(0, ledger.rest));
  const targets = gather(ledger.gainers, Math.max(0, ledger.rest));
  const total = sum(targets);
  const link = (source, i) =>
    targets.map((target, j) => ({ source: i, target: j, value: (-source.change * target.change) / total }));
  return { sources, targets, links: total > 0 ? sources.flatMap(link) : [] };
}

/** "No 0.500 → 0.350" */
function nodeLabel(node) {
  if (node.token === null) return `all others ${probabilityChange(node.change, 3)}`;
  const name = tokenLabel(node.token, 14);
  if (!Number.isFinite(node.initial) || !Number.isFinite(node.now)) {
    return `${name} ${probabilityChange(node.change, 3)}`;
  }
  return `${name} ${probability(node.initial, 3)} → ${probability(node.now, 3)}`;
}

export function flowFigure(ledger, colors, colorOf = () => colors.other) {
  const { sources, targets, links } = flows(ledger);
  const nodes = [...sources, ...targets];
  const color = (node) => (node.token === null ? colors.other : colorOf(node));
  const trace = {
    type: "sankey",
    arrangement: "fixed",
    valueformat: ".4f",
    node: {
      label: nodes.map(nodeLabel),
      color: nodes.map(color),
      pad: 17,
      thickness: 12,
      line: { width: 0 },
      customdata: nodes.map((node) => probabilityChange(node.change)),
      hovertemplate: "%{label}<br>%{customdata}<extra></extra>",
    },
    link: {
      source: links.map((link) => link.source),
      target: links.map((link) => sources.length + link.target),
      value: links.map((link) => link.value),
      color: links.map((link) => faded(color(sources[link.source]), 0.28)),
      hoverinfo: "skip",
    },
  };
  const moved = probability(
    targets.reduce((sum, node) => sum + node.change, 0),
    3,
  );
  const caption = (x, xanchor, text) => ({
    x,
    xanchor,
    xref: "paper",
    y: 1,
    yanchor: "bottom",
    yref: "paper",
    yshift: 6,
    text,
    showarrow: false,
    font: { size: 12, color: colors.ink2 },
  });
  return {
    data: links.length ? [trace] : [],
    layout: layout(colors, {
      margin: { l: 8, r: 8, t: 28, b: 14 },
      showlegend: false,
      hovermode: "closest",
      annotations: links.length ? [caption(0, "left", `lost ${moved}`), caption(1, "right", `gained ${moved}`)] : [],
    }),
  };
}
