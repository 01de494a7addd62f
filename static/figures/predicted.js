// Predicted gainers beside the actual ones: two columns of ranks, joined where a token is in both.

import { probabilityChange } from "../lib/format.js";
import { layout, tokenLabel } from "./frame.js";

export const MOST_RANKS = 10;

/** Where the two columns of ranks stand; the words to their left and right need the rest. */
const PREDICTED = 0;
const ACTUAL = 0.7;

/** The top predicted gainers and the top actual ones, each token once.
 *
 *  predicted: [{token_id, token, predicted_rank, actual_rank, actual_change}], best first; gainers:
 *  [{token_id, token, change}], largest first. A rank beyond `most` is null: not among the top. */
export function rankPairs(predicted, gainers, most = MOST_RANKS) {
  const among = (rank) => (Number.isFinite(rank) && rank >= 1 && rank <= most ? rank : null);
  const actual = new Map(gainers.slice(0, most).map((entry, i) => [entry.token_id, i + 1]));
  const rows = predicted
    .filter((entry) => among(entry.predicted_rank))
    .map((entry) => ({
      token_id: entry.token_id,
      token: entry.token,
      predictedRank: entry.predicted_rank,
      actualRank: actual.get(entry.token_id) ?? (entry.actual_change > 0 ? among(entry.actual_rank) : null),
      change: entry.actual_change,
    }));
  const known = new Set(rows.map((row) => row.token_id));
  const surprises = gainers
    .slice(0, most)
    .filter((entry) => !known.has(entry.token_id))
    .map((entry) => ({
      token_id: entry.token_id,
      token: entry.token,
      predictedRank: null,
      actualRank: actual.get(entry.token_id),
      change: entry.change,
    }));
  return [...rows, ...surprises].sort((a, b) => (a.predictedRank ?? 99) - (b.predictedRank ?? 99));
}

/** From tokens whose predicted change is known, where the server has not said: as rankPairs wants. */
export function predictedOf(followed, gainers) {
  const changes = new Map(gainers.map((entry, i) => [entry.token_id, { rank: i + 1, change: entry.change }]));
  return followed
    .filter((entry) => entry.predicted > 0)
    .sort((a, b) => b.predicted - a.predicted)
    .map((entry, i) => ({
      token_id: entry.token_id,
      token: entry.token,
      predicted: entry.predicted,
      predicted_rank: i + 1,
      actual_change: changes.get(entry.token_id)?.change ?? null,
      actual_rank: changes.get(entry.token_id)?.rank ?? null,
    }));
}

/** How many of the actual top gainers were among the top predicted ones. */
export function hits(pairs, top = 3) {
  const actual = pairs.filter((pair) => pair.actualRank !== null && pair.actualRank <= top);
  return { of: actual.length, predicted: actual.filter((pair) => pair.predictedRank !== null).length };
}

/** Left the predicted rank, right the actual one; what is in one column only is a hollow point. */
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
  const column = (side, rankOf, position) => {
    const shown = pairs.filter((pair) => rankOf(pair) !== null);
    const isJoined = (pair) => pair.predictedRank !== null && pair.actualRank !== null;
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

function label(pair, side) {
  const rank = side === "predicted" ? pair.predictedRank : pair.actualRank;
  const name = tokenLabel(pair.token, 12);
  return side === "predicted" ? `${name}  ${rank} ` : ` ${rank}  ${name} ${probabilityChange(pair.change, 3)}`;
}
