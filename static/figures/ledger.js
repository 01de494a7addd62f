// The mass ledger: which tokens gained and lost probability at one position, as numbers, and as the figure that is
// downloaded (the page shows the same numbers as a table with bars).

import { probability, probabilityChange, visible } from "../lib/format.js";
import { layout, plainText } from "./frame.js";

/** @import { Colors, Figure, Ledger, LedgerEntry, LedgerRow, MaybeNumber, WatchedToken } from "../lib/types.js" */

/**
 * The ledger at one step, made of the traced tokens only: the change of all others is what balances it.
 *
 * @param {(WatchedToken & {now: number})[]} tokens each once
 * @param {number} top at most so many gainers and losers
 * @returns {Ledger}
 */
export function makeLedger(tokens, top = 10) {
  const entries = rankPredictions(
    tokens.map((token) => ({ ...token, change: token.now - (token.initial ?? Number.NaN) })),
  );
  const gainers = entries
    .filter((e) => e.change > 0)
    .sort((a, b) => b.change - a.change)
    .slice(0, top);
  const losers = entries
    .filter((e) => e.change < 0)
    .sort((a, b) => a.change - b.change)
    .slice(0, top);
  const listed = [...gainers, ...losers].reduce((sum, entry) => sum + entry.change, 0);
  return { gainers, losers, rest: -listed };
}

/**
 * A ledger that the worker made over the whole vocabulary.
 *
 * @param {LedgerEntry[]} gainers
 * @param {LedgerEntry[]} losers
 * @param {MaybeNumber} rest
 * @param {WatchedToken[]} watched tokens whose predicted change is known, for the ranks
 * @returns {Ledger}
 */
export function recordedLedger(gainers, losers, rest, watched = []) {
  const rankOf = new Map(rankPredictions(watched).map((entry) => [entry.token_id, entry.predictedRank]));
  const complete = (/** @type {LedgerEntry} */ entry) => ({
    ...entry,
    now: entry.final,
    predictedRank: rankOf.get(entry.token_id) ?? null,
  });
  return { gainers: gainers.map(complete), losers: losers.map(complete), rest };
}

/**
 * Add each token's predictedRank: 1, 2, … among the predicted gainers; −1, −2, … among the predicted losers; null
 * where nothing is predicted.
 *
 * @template {WatchedToken} T
 * @param {T[]} entries
 * @returns {(T & {predictedRank: MaybeNumber})[]}
 */
export function rankPredictions(entries) {
  /** @param {T} entry */
  const predicted = (entry) => (Number.isFinite(entry.predicted) ? Number(entry.predicted) : 0);
  const up = entries.filter((e) => predicted(e) > 0).sort((a, b) => predicted(b) - predicted(a));
  const down = entries.filter((e) => predicted(e) < 0).sort((a, b) => predicted(a) - predicted(b));
  /** @type {Map<T, number>} */
  const rank = new Map();
  up.forEach((entry, i) => {
    rank.set(entry, i + 1);
  });
  down.forEach((entry, i) => {
    rank.set(entry, -(i + 1));
  });
  return entries.map((entry) => ({ ...entry, predictedRank: rank.get(entry) ?? null }));
}

/** A token's probability before and now. @param {LedgerRow} entry */
export const beforeAndNow = (entry) => `${probability(entry.initial)} → ${probability(entry.now)}`;

/**
 * The figure that is downloaded: bars to the right gained, bars to the left lost.
 *
 * @param {Ledger} ledger
 * @param {Colors} colors
 * @param {(entry: LedgerRow) => string} colorOf
 * @returns {Figure}
 */
export function ledgerFigure(ledger, colors, colorOf) {
  const row = (/** @type {LedgerRow} */ e) => ({
    label: visible(e.token),
    change: e.change,
    text: beforeAndNow(e),
    color: colorOf(e),
  });
  const rows = [
    ...ledger.gainers.map(row),
    { label: "all other tokens", change: ledger.rest ?? 0, text: "", color: colors.other },
    ...[...ledger.losers].reverse().map(row),
  ];
  // Two tokens may look alike; places keep their bars apart.
  const places = rows.map((_, i) => i);
  // Room for the figures on both sides of the bars.
  const bound = 1.8 * Math.max(1e-9, ...rows.map((r) => Math.abs(r.change)));
  return {
    data: [
      {
        type: "bar",
        orientation: "h",
        x: rows.map((r) => r.change),
        y: places,
        marker: { color: rows.map((r) => r.color) },
        text: rows.map((r) => `${probabilityChange(r.change)}  ${r.text}`),
        textposition: "outside",
        cliponaxis: false,
        hoverinfo: "skip",
      },
    ],
    layout: layout(colors, {
      x: {
        title: "change of probability",
        range: [-bound, bound],
        showgrid: true,
        zeroline: true,
        zerolinecolor: colors.ink2,
      },
      y: {
        autorange: "reversed",
        tickvals: places,
        ticktext: rows.map((r) => plainText(r.label)),
        showgrid: false,
      },
      showlegend: false,
      margin: { l: 110, r: 16, t: 12, b: 40 },
    }),
  };
}
