// The mass ledger: which tokens gained and lost probability at the fork. Numbers first; the page
// shows them as a table with bars, and the picture that is downloaded is drawn from the same rows.

import { probability, probabilityChange, visible } from "../format.js";
import { faded, layout } from "./frame.js";

/** A share of all that flows; what is smaller is drawn among all others. */
const SMALLEST_FLOW = 0.02;

/** The ledger at one step from tokens that were followed.
 *
 *  tokens: [{token_id, token, initial, now, predicted}], each once. Returns {gainers, losers, rest,
 *  moved, rankAgreement}; all changes of gainers, losers and rest sum to zero. */
export function drawUp(tokens, top = 10) {
  const entries = rankPredictions(tokens.map((token) => ({ ...token, change: token.now - token.initial })));
  const gainers = entries.filter((e) => e.change > 0).sort((a, b) => b.change - a.change).slice(0, top);
  const losers = entries.filter((e) => e.change < 0).sort((a, b) => a.change - b.change).slice(0, top);
  const listed = [...gainers, ...losers].reduce((sum, entry) => sum + entry.change, 0);
  return { gainers, losers, rest: -listed, rankAgreement: rankAgreement([...gainers, ...losers]) };
}

/** A ledger that the worker drew up over the whole vocabulary: taken as it is.
 *  followed: the tokens whose predicted change is known, for the ranks. */
export function given(gainers, losers, rest, followed = []) {
  const ranked = rankPredictions(followed);
  const rankOf = new Map(ranked.map((entry) => [entry.token_id, entry]));
  const complete = (entry) => ({ ...entry, now: entry.final, predictedRank: rankOf.get(entry.token_id)?.predictedRank ?? null });
  return { gainers: gainers.map(complete), losers: losers.map(complete), rest, rankAgreement: rankAgreement([...gainers, ...losers]) };
}

/** predictedRank: 1, 2, … among predicted gainers; −1, −2, … among predicted losers. */
function rankPredictions(entries) {
  const has = entries.filter((entry) => Number.isFinite(entry.predicted));
  const up = has.filter((e) => e.predicted > 0).sort((a, b) => b.predicted - a.predicted);
  const down = has.filter((e) => e.predicted < 0).sort((a, b) => a.predicted - b.predicted);
  const rank = new Map([...up.map((e, i) => [e, i + 1]), ...down.map((e, i) => [e, -(i + 1)])]);
  return entries.map((entry) => ({ ...entry, predictedRank: rank.get(entry) ?? null }));
}

/** Spearman's correlation of predicted and actual change; null for fewer than three tokens. */
export function rankAgreement(entries) {
  const both = entries.filter((e) => Number.isFinite(e.predicted) && Number.isFinite(e.change));
  if (both.length < 3 || both.every((e) => e.change === 0)) return null;
  return pearson(ranks(both.map((e) => e.predicted)), ranks(both.map((e) => e.change)));
}

/** Ranks from 1; equal values share their mean rank. */
export function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Array(values.length);
  for (let i = 0; i < order.length; ) {
    let j = i;
    while (j < order.length && values[order[j]] === values[order[i]]) j += 1;
    for (let k = i; k < j; k += 1) result[order[k]] = (i + j + 1) / 2;
    i = j;
  }
  return result;
}

export function pearson(a, b) {
  const mean = (xs) => xs.reduce((sum, x) => sum + x, 0) / xs.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((x, i) => { ab += (x - ma) * (b[i] - mb); aa += (x - ma) ** 2; bb += (b[i] - mb) ** 2; });
  return aa && bb ? ab / Math.sqrt(aa * bb) : null;
}

/** From what was lost to what was gained. Mass has no identity, so each loser gives to each gainer
 *  in proportion to what that gained. {sources, targets: [{token, change, ...}], links}; a node
 *  whose token is null stands for all others. */
export function flows(ledger, top = 6) {
  const gather = (entries, rest) => {
    const sum = (parts) => parts.reduce((total, entry) => total + entry.change, 0);
    const least = SMALLEST_FLOW * Math.abs(sum(entries) + rest);
    const kept = entries.slice(0, top).filter((entry) => Math.abs(entry.change) >= least);
    const others = sum(entries.slice(kept.length)) + rest;
    return Math.abs(others) > 1e-9 ? [...kept, { token: null, change: others }] : kept;
  };
  const sources = gather(ledger.losers, Math.min(0, ledger.rest));
  const targets = gather(ledger.gainers, Math.max(0, ledger.rest));
  const total = targets.reduce((sum, node) => sum + node.change, 0);
  const links = total > 0 ? sources.flatMap((source, i) => targets.map((target, j) => ({ source: i, target: j, value: (-source.change * target.change) / total }))) : [];
  return { sources, targets, links };
}

export function flowFigure(ledger, colors, colorOf) {
  const { sources, targets, links } = flows(ledger);
  const nodes = [...sources, ...targets];
  const color = (node) => (node.token === null ? colors.other : colorOf(node));
  const name = (node) => (node.token === null ? "all others" : visible(node.token).replaceAll("&", "&amp;").replaceAll("<", "&lt;"));
  return {
    data: links.length ? [{
      type: "sankey", arrangement: "fixed", valueformat: ".4f",
      node: {
        label: nodes.map((node) => `${name(node)} ${probabilityChange(node.change)}`), color: nodes.map(color),
        pad: 12, thickness: 12, line: { width: 0 }, hovertemplate: "%{label}<extra></extra>",
      },
      link: {
        source: links.map((link) => link.source), target: links.map((link) => sources.length + link.target),
        value: links.map((link) => link.value), color: links.map((link) => faded(color(sources[link.source]), 0.28)), hoverinfo: "skip",
      },
    }] : [],
    layout: layout(colors, { margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "closest" }),
  };
}

/** For the picture that is downloaded: bars to the right gain, to the left lose. */
export function ledgerFigure(ledger, colors, colorOf) {
  const rows = [
    ...ledger.gainers.map((e) => ({ label: visible(e.token), change: e.change, text: `${probability(e.initial)} → ${probability(e.now)}`, color: colorOf(e) })),
    { label: "all other tokens", change: ledger.rest, text: "", color: colors.other },
    ...[...ledger.losers].reverse().map((e) => ({ label: visible(e.token), change: e.change, text: `${probability(e.initial)} → ${probability(e.now)}`, color: colorOf(e) })),
  ];
  // Two tokens may look alike; places keep their bars apart.
  const places = rows.map((_, i) => i);
  // Room for the figures on both sides of the bars.
  const bound = 1.8 * Math.max(1e-9, ...rows.map((r) => Math.abs(r.change)));
  return {
    data: [{
      type: "bar", orientation: "h", x: rows.map((r) => r.change), y: places,
      marker: { color: rows.map((r) => r.color) },
      text: rows.map((r) => `${probabilityChange(r.change)}  ${r.text}`), textposition: "outside", cliponaxis: false,
      hoverinfo: "skip",
    }],
    layout: layout(colors, {
      x: { title: "change of probability at the fork", range: [-bound, bound], showgrid: true, zeroline: true, zerolinecolor: colors.ink2 },
      y: { autorange: "reversed", tickvals: places, ticktext: rows.map((r) => r.label.replaceAll("<", "&lt;")), showgrid: false },
      showlegend: false, margin: { l: 110, r: 16, t: 12, b: 40 },
    }),
  };
}
