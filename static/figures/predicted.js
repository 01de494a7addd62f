// Figure of predicted and actual gainers: two columns of ranks, joined where a token is in both.

import { probabilityChange } from "../lib/format.js";
import { layout, tokenLabel } from "./frame.js";

/** @import { Colors, Figure, MaybeNumber, Prediction, RankPair, Trace, WatchedToken } from "../lib/types.js" */

/** @typedef {{token_id: number, token?: string, change: number}} Gainer */

export const MOST_RANKS = 10;

/** Horizontal positions of the two columns; the labels beside them need the rest of the width. */
const PREDICTED = 0;
const ACTUAL = 0.7;

/**
 * The top predicted gainers and the top actual ones, each token once.
 *
 * @param {Prediction[]} predicted best first
 * @param {Gainer[]} gainers largest first
 * @param {number} most ranks beyond it are null: not among the top
 * @returns {RankPair[]} by predicted rank
 */
export function rankPairs(predicted, gainers, most = MOST_RANKS) {
  const among = (/** @type {MaybeNumber} */ rank) =>
    typeof rank === "number" && rank >= 1 && rank <= most ? rank : null;
  const actual = new Map(gainers.slice(0, most).map((entry, i) => [entry.token_id, i + 1]));
  const rows = predicted
    .filter((entry) => among(entry.predicted_rank))
    .map((entry) => ({
      token_id: entry.token_id,
      token: entry.token,
      predictedRank: entry.predicted_rank,
      actualRank: actual.get(entry.token_id) ?? ((entry.actual_change ?? 0) > 0 ? among(entry.actual_rank) : null),
      change: entry.actual_change,
    }));
  const known = new Set(rows.map((row) => row.token_id));
  const surprises = gainers
    .slice(0, most)
    .filter((entry) => !known.has(entry.token_id))
    .map((entry) => ({
      token_id: entry.token_id,
      token: entry.token ?? "",
      predictedRank: null,
      actualRank: actual.get(entry.token_id) ?? null,
      change: entry.change,
    }));
  return [...rows, ...surprises].sort((a, b) => (a.predictedRank ?? 99) - (b.predictedRank ?? 99));
}

/**
 * Predictions from the watched tokens, for steps at which the server's own are not known.
 *
 * @param {WatchedToken[]} watched
 * @param {Gainer[]} gainers largest first
 * @returns {Prediction[]} best first, for rankPairs
 */
export function predictedOf(watched, gainers) {
  const changes = new Map(gainers.map((entry, i) => [entry.token_id, { rank: i + 1, change: entry.change }]));
  return watched
    .filter((entry) => (entry.predicted ?? 0) > 0)
    .sort((a, b) => (b.predicted ?? 0) - (a.predicted ?? 0))
    .map((entry, i) => ({
      token_id: entry.token_id,
      token: entry.token,
      predicted: entry.predicted,
      predicted_rank: i + 1,
      actual_change: changes.get(entry.token_id)?.change ?? null,
      actual_rank: changes.get(entry.token_id)?.rank ?? null,
    }));
}

/**
 * How many of the actual top gainers are among the top predicted ones.
 *
 * @param {RankPair[]} pairs
 */
export function hits(pairs, top = 3) {
  const actual = pairs.filter((pair) => pair.actualRank !== null && pair.actualRank <= top);
  return { of: actual.length, predicted: actual.filter((pair) => pair.predictedRank !== null).length };
}

/**
 * Predicted ranks on the left, actual ones on the right; a token in one column only is a hollow point.
 *
 * @param {RankPair[]} pairs
 * @param {Colors} colors
 * @param {(pair: RankPair) => string} colorOf
 * @returns {Figure}
 */
export function predictedFigure(pairs, colors, colorOf) {
  const joined = pairs.filter((pair) => pair.predictedRank !== null && pair.actualRank !== null);
  const links = joined.map((pair) => ({
    type: "scatter",
    mode: "lines",
    x: [PREDICTED, ACTUAL],
    y: [pair.predictedRank, pair.actualRank],
    name: pair.token,
    line: { color: colorOf(pair), width: 2 },
    hoverinfo: "skip",
    showlegend: false,
  }));
  /**
   * @param {"predicted" | "actual"} side
   * @param {(pair: RankPair) => MaybeNumber} rankOf
   * @param {string} position of the labels
   * @returns {Trace}
   */
  const column = (side, rankOf, position) => {
    const shown = pairs.filter((pair) => rankOf(pair) !== null);
    const isJoined = (/** @type {RankPair} */ pair) => pair.predictedRank !== null && pair.actualRank !== null;
    return {
      type: "scatter",
      mode: "markers+text",
      name: side,
      x: shown.map(() => (side === "predicted" ? PREDICTED : ACTUAL)),
      y: shown.map(rankOf),
      text: shown.map((pair) => label(pair, side)),
      textposition: position,
      cliponaxis: false,
      customdata: shown.map((pair) => probabilityChange(pair.change)),
      marker: {
        size: 9,
        color: shown.map((pair) => (isJoined(pair) ? colorOf(pair) : colors.surface)),
        line: { width: 1.5, color: shown.map((pair) => (isJoined(pair) ? colorOf(pair) : colors.other)) },
      },
      textfont: { size: 12.5, color: shown.map((pair) => (isJoined(pair) ? colors.ink : colors.ink2)) },
      hovertemplate: "%{text}<br>actual change %{customdata}<extra></extra>",
      showlegend: false,
    };
  };
  const lowest = Math.max(3, ...pairs.flatMap((pair) => [pair.predictedRank ?? 0, pair.actualRank ?? 0]));
  return {
    data: pairs.length
      ? [
          ...links,
          column("predicted", (pair) => pair.predictedRank, "middle left"),
          column("actual", (pair) => pair.actualRank, "middle right"),
        ]
      : [],
    layout: layout(colors, {
      x: {
        range: [-1, 2],
        tickvals: [PREDICTED, ACTUAL],
        ticktext: ["predicted", "actual"],
        side: "top",
        fixedrange: true,
        tickfont: { size: 12.5, color: colors.ink2 },
        ticks: "",
        showline: false,
      },
      y: { range: [lowest + 0.6, 0.4], visible: false, fixedrange: true, showgrid: false },
      margin: { l: 4, r: 4, t: 30, b: 4 },
      hovermode: "closest",
      showlegend: false,
      dragmode: false,
    }),
  };
}

/** @param {RankPair} pair @param {"predicted" | "actual"} side */
function label(pair, side) {
  const rank = side === "predicted" ? pair.predictedRank : pair.actualRank;
  const name = tokenLabel(pair.token, 12);
  return side === "predicted" ? `${name}  ${rank} ` : ` ${rank}  ${name} ${probabilityChange(pair.change, 3)}`;
}
