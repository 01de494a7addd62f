// The mass ledger: which tokens gained and lost probability at one position. Numbers first; the
// page shows them as a table with bars, and the picture that is downloaded is drawn from the same.

import { probability, probabilityChange, visible } from "../lib/format.js";
import { layout, plainText } from "./frame.js";

/** The ledger at one step from tokens that were followed.
 *
 *  tokens: [{token_id, token, initial, now, predicted}], each once. Returns {gainers, losers, rest};
 *  all changes of them sum to zero. */
export function drawUp(tokens, top = 10) {
  const entries = rankPredictions(tokens.map((token) => ({ ...token, change: token.now - token.initial })));
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

/** A ledger that the worker drew up over the whole vocabulary: taken as it is.
 *  followed: the tokens whose predicted change is known, for the ranks. */
export function given(gainers, losers, rest, followed = []) {
  const rankOf = new Map(rankPredictions(followed).map((entry) => [entry.token_id, entry.predictedRank]));
  const complete = (entry) => ({
    ...entry,
    now: entry.final,
    predictedRank: rankOf.get(entry.token_id) ?? null,
  });
  return { gainers: gainers.map(complete), losers: losers.map(complete), rest };
}

/** predictedRank: 1, 2, … among predicted gainers; −1, −2, … among predicted losers. */
export function rankPredictions(entries) {
  const has = entries.filter((entry) => Number.isFinite(entry.predicted));
  const up = has.filter((e) => e.predicted > 0).sort((a, b) => b.predicted - a.predicted);
  const down = has.filter((e) => e.predicted < 0).sort((a, b) => a.predicted - b.predicted);
  const rank = new Map([...up.map((e, i) => [e, i + 1]), ...down.map((e, i) => [e, -(i + 1)])]);
  return entries.map((entry) => ({ ...entry, predictedRank: rank.get(entry) ?? null }));
}

/** A token's probability before and now. */
export const beforeAndNow = (entry) => `${probability(entry.initial)} → ${probability(entry.now)}`;

/** For the picture that is downloaded: bars to the right gain, to the left lose. */
export function ledgerFigure(ledger, colors, colorOf) {
  const row = (e) => ({ label: visible(e.token), change: e.change, text: beforeAndNow(e), color: colorOf(e) });
  const rows = [
    ...ledger.gainers.map(row),
    { label: "all other tokens", change: ledger.rest, text: "", color: colors.other },
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
