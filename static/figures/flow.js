// Figure of the mass ledger as a Sankey diagram: lost probability on the left flows to gained probability.

import { probability, probabilityChange } from "../lib/format.js";
import { faded, layout, tokenLabel } from "./frame.js";

/** @import { Colors, Figure, Ledger, LedgerRow, MaybeNumber } from "../lib/types.js" */

/** A token, or with `token: null` all others together.
 *  @typedef {{token: string | null, change: number, initial?: MaybeNumber, now?: MaybeNumber}} Node */

/** Tokens with less than this share of all moved probability are drawn among all others. */
const SMALLEST_FLOW = 0.02;

/**
 * Links from every loser to every gainer. Probability mass has no identity, so each loser gives to each gainer in
 * proportion to that one's gain: flow(a → b) = loss(a) · gain(b) / Σ gains.
 *
 * @param {Ledger} ledger
 * @param {number} top at most so many tokens on each side
 * @returns {{sources: Node[], targets: Node[], links: {source: number, target: number, value: number}[]}} links name
 *   their ends by index
 */
export function flows(ledger, top = 6) {
  const ledgerRest = ledger.rest ?? 0;
  const sum = (/** @type {Node[]} */ parts) => parts.reduce((total, entry) => total + entry.change, 0);
  const all = Math.max(Math.abs(sum(ledger.gainers) + Math.max(0, ledgerRest)), 1e-12);
  const least = SMALLEST_FLOW * all;
  /** @param {LedgerRow[]} entries @param {number} rest @returns {Node[]} */
  const gather = (entries, rest) => {
    const kept = entries.slice(0, top).filter((entry) => Math.abs(entry.change) >= least);
    const others = sum(entries.slice(kept.length)) + rest;
    return Math.abs(others) > 1e-9 ? [...kept, { token: null, change: others }] : kept;
  };
  const sources = gather(ledger.losers, Math.min(0, ledgerRest));
  const targets = gather(ledger.gainers, Math.max(0, ledgerRest));
  const total = sum(targets);
  /** @param {Node} source @param {number} i */
  const link = (source, i) =>
    targets.map((target, j) => ({ source: i, target: j, value: (-source.change * target.change) / total }));
  return { sources, targets, links: total > 0 ? sources.flatMap(link) : [] };
}

/** "No 0.500 → 0.350" @param {Node} node */
function nodeLabel(node) {
  if (node.token === null) return `all others ${probabilityChange(node.change, 3)}`;
  const name = tokenLabel(node.token, 14);
  if (!Number.isFinite(node.initial) || !Number.isFinite(node.now)) {
    return `${name} ${probabilityChange(node.change, 3)}`;
  }
  return `${name} ${probability(node.initial, 3)} → ${probability(node.now, 3)}`;
}

/**
 * @param {Ledger} ledger
 * @param {Colors} colors
 * @param {(entry: any) => string} colorOf
 * @returns {Figure}
 */
export function flowFigure(ledger, colors, colorOf = () => colors.other) {
  const { sources, targets, links } = flows(ledger);
  const nodes = [...sources, ...targets];
  const color = (/** @type {Node} */ node) => (node.token === null ? colors.other : colorOf(node));
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
  /** @param {number} x @param {string} xanchor @param {string} text */
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
