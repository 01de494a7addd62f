// Figures of a pre-flight: which pair's step moves which, which tokens of y− pull y+ down, predicted against measured.

import { percent } from "../lib/format.js";
import { gap, layout, tokenLabel } from "./frame.js";

/** @import { Colors, Figure, MaybeNumber } from "../lib/types.js" */

/** GET /runs/{id}/preflight, `influence`: [i][j] is the change of pair columns[j] by the step on pair rows[i], nats.
 *  @typedef {{
 *    rows: number[], columns: number[], preferred: number[][], dispreferred: number[][], order: number[],
 *  }} Influence */

/** Pixels that a label takes, and those of the plot that the labels and the color bar take. */
const LABEL_ROOM = 15;
const MARGINS = { x: 170, y: 130 };
const MONO = "ui-monospace, Menlo, Consolas, monospace";

/** @param {Colors} colors @param {string} unit @param {number} bound */
const diverging = (colors, unit, bound) => ({
  zmin: -bound,
  zmax: bound,
  colorscale: [
    [0, colors.dispreferred],
    [0.5, colors.surface],
    [1, colors.preferred],
  ],
  colorbar: {
    thickness: 10,
    outlinewidth: 0,
    tickfont: { size: 11.5, color: colors.ink2 },
    tickformat: bound < 1000 ? ".2~g" : ".2~s",
    title: { text: unit, font: { size: 11.5, color: colors.ink2 } },
  },
  hoverongaps: false,
});

/** @param {string[]} labels @param {number} room pixels: so many are shown that they can be read */
function someTicks(labels, room) {
  const every = Math.max(1, Math.ceil((labels.length * LABEL_ROOM) / Math.max(room, LABEL_ROOM)));
  const shown = labels.map((_, k) => k).filter((k) => k % every === 0);
  return { tickvals: shown, ticktext: shown.map((k) => labels[k]), showgrid: false };
}

/**
 * The matrix with its rows and columns in one order; a row that is not finished is left out.
 *
 * @param {Influence} influence
 * @param {"preferred" | "dispreferred"} side
 * @param {number[]} order pairs
 */
export function arranged(influence, side, order) {
  const columnAt = new Map(influence.columns.map((pair, j) => [pair, j]));
  const changes = new Map(influence.rows.map((pair, i) => [pair, influence[side][i]]));
  const rows = order.filter((pair) => changes.has(pair));
  const places = order.map((pair) => columnAt.get(pair) ?? 0);
  const values = rows.map((pair) => places.map((j) => changes.get(pair)?.[j] ?? 0));
  return { rows, columns: order, values };
}

/** The largest effect of a pair on another; its effect on itself where there is no other. @param {ReturnType<typeof
 *  arranged>} matrix */
export function largestInfluence({ rows, columns, values }) {
  let [among, own] = [0, 0];
  values.forEach((row, i) => {
    row.forEach((value, j) => {
      if (rows[i] === columns[j]) own = Math.max(own, Math.abs(value));
      else among = Math.max(among, Math.abs(value));
    });
  });
  return among || own;
}

/**
 * @param {ReturnType<typeof arranged>} matrix
 * @param {Colors} colors
 * @returns {Figure}
 */
export function influenceFigure(matrix, colors) {
  const { rows, columns, values } = matrix;
  const small = { size: 11.5, color: colors.ink2 };
  return {
    data: [
      {
        type: "heatmap",
        x: rows.length ? columns.map(String) : [],
        y: rows.map(String),
        z: values.map((row) => row.map(gap)),
        xgap: columns.length < 40 ? 1 : 0,
        ygap: columns.length < 40 ? 1 : 0,
        customdata: rows.map((row) => columns.map((column) => [row, column])),
        hovertemplate:
          "a step on pair %{customdata[0]}<br>moves pair %{customdata[1]}<br>by %{z:+.3~e} nats<extra></extra>",
        ...diverging(colors, "nats", largestInfluence(matrix) || 1e-9),
      },
    ],
    layout: layout(colors, {
      // Of categories, Plotly labels as many as there is room for.
      x: { title: "moves pair", type: "category", showgrid: false, tickfont: small },
      y: { title: "a step on pair", type: "category", autorange: "reversed", showgrid: false, tickfont: small },
      hovermode: "closest",
      showlegend: false,
      margin: { l: 60, r: 8, t: 8, b: 46 },
    }),
  };
}

/** A pair as GET /runs/{id}/preflight/{pair} returns it: interference.map is [token of y+][token of y−], pulls are its
 *  column sums.
 *  @typedef {{
 *    interference: {map: number[][], pulls: number[]} | null, preferred_tokens: string[],
 *    dispreferred_tokens: string[], head_pull: MaybeNumber,
 *  }} InterferingPair */

/**
 * The map, tokens of y+ by tokens of y−, under the sums of its columns.
 *
 * @param {InterferingPair} pair
 * @param {Colors} colors
 * @param {{width?: number, height?: number}} size pixels of the plot, which decide how many labels are shown
 * @returns {Figure}
 */
export function interferenceFigure(pair, colors, { width = 900, height = 500 } = {}) {
  const { preferred_tokens: preferred, dispreferred_tokens: dispreferred } = pair;
  const { map = [], pulls = [] } = pair.interference ?? {};
  // What is pulled down is orange, as what falls is everywhere.
  const values = map.map((row) => row.map((value) => gap(-value)));
  let bound = 0;
  for (const row of values) for (const value of row) bound = Math.max(bound, Math.abs(value ?? 0));
  const small = { size: 11.5, color: colors.ink2, family: MONO };
  /** @param {number} value */
  const share = (value) => shareOfPull(value, pair.head_pull);
  const columnNames = dispreferred.map((token, j) => `${j + 1}: ${tokenLabel(token)}`);
  const places = map.length ? dispreferred.map((_, j) => j) : [];
  return {
    data: [
      {
        type: "heatmap",
        x: places,
        y: preferred.map((_, i) => i),
        z: values,
        xgap: dispreferred.length < 40 ? 1 : 0,
        ygap: preferred.length < 40 ? 1 : 0,
        customdata: map.map((row, i) =>
          row.map((value, j) => [`${i + 1}: ${tokenLabel(preferred[i])}`, columnNames[j], share(value)]),
        ),
        hovertemplate:
          "y+ token %{customdata[0]}<br>y− token %{customdata[1]}<br>lowering the second moves the first by " +
          "%{z:+.3~g}%{customdata[2]}<extra></extra>",
        ...diverging(colors, "", bound || 1e-9),
      },
      {
        type: "bar",
        x: places,
        y: pulls.map((pull) => gap(pull)),
        yaxis: "y2",
        customdata: pulls.map((pull, j) => [columnNames[j], share(pull)]),
        marker: { color: pulls.map((pull) => (pull > 0 ? colors.dispreferred : colors.preferred)) },
        hovertemplate: "y− token %{customdata[0]}<br>takes %{y:.3~g} from y+%{customdata[1]}<extra></extra>",
      },
    ],
    layout: layout(colors, {
      x: {
        title: "lowered: tokens of y−",
        anchor: "y",
        ...someTicks(
          dispreferred.map((token) => tokenLabel(token, 12)),
          width - MARGINS.x,
        ),
        tickfont: small,
      },
      y: {
        autorange: "reversed",
        domain: [0, 0.8],
        ...someTicks(
          preferred.map((token) => tokenLabel(token, 12)),
          0.8 * (height - MARGINS.y),
        ),
        tickfont: small,
      },
      yaxis2: {
        domain: [0.84, 1],
        title: { text: "pull", font: { size: 11.5, color: colors.ink2 }, standoff: 4 },
        nticks: 3,
        tickformat: Math.max(...pulls.map(Math.abs)) < 1000 ? ".2~g" : ".2~s",
        tickfont: { size: 11.5, color: colors.ink2 },
        gridcolor: colors.line,
        zerolinecolor: colors.line,
        automargin: true,
        fixedrange: true,
      },
      bargap: dispreferred.length < 40 ? 0.2 : 0,
      hovermode: "closest",
      showlegend: false,
      margin: { l: 84, r: 8, t: 8, b: 60 },
    }),
  };
}

/**
 * "<br>12 % of all that lowering y− takes"; empty where it or this part of it takes nothing.
 *
 * @param {number} value
 * @param {MaybeNumber} pull of all tokens
 */
export function shareOfPull(value, pull) {
  if (!pull || pull <= 0 || value <= 0) return "";
  return `<br>${percent(value / pull, 1)} of all that lowering y− takes`;
}

/**
 * @param {{pair: number, x: MaybeNumber, y: MaybeNumber}[]} points predicted and measured changes, nats
 * @param {Colors} colors
 * @returns {Figure}
 */
export function againstMeasuredFigure(points, colors) {
  const zero = { type: "line", line: { color: colors.line, width: 1 } };
  return {
    data: [
      {
        type: "scatter",
        mode: "markers",
        x: points.map((point) => gap(point.x)),
        y: points.map((point) => gap(point.y)),
        customdata: points.map((point) => point.pair),
        marker: {
          size: 8,
          color: points.map((point) => ((point.x ?? 0) < 0 ? colors.dispreferred : colors.preferred)),
        },
        hovertemplate: "pair %{customdata}<br>predicted %{x:+.3~e}<br>measured %{y:+.4~g}<extra></extra>",
      },
    ],
    layout: layout(colors, {
      x: { title: "predicted first step, nats", zeroline: false, tickformat: ".2~g", nticks: 6 },
      y: { title: "measured after training, nats" },
      hovermode: "closest",
      showlegend: false,
      margin: { l: 56, r: 12, t: 8, b: 46 },
      shapes: [
        { ...zero, x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1 },
        { ...zero, xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0 },
      ],
    }),
  };
}
