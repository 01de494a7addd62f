// Figures of measures over pairs: distribution, one measure against another, against measured displacement; and of
// the lengths of a dataset's texts.

import { faded, gap, layout } from "./frame.js";

/** @import { Colors, Figure, MaybeNumber, Trace } from "../lib/types.js" */

/** @typedef {{pair: number, x: MaybeNumber, y: MaybeNumber, isFlagged?: boolean}} Point */
/** @typedef {{low: number, high: number, count: number}} Bin */

/**
 * @param {Bin[]} bins of equal width
 * @param {string} title of the horizontal axis
 * @param {Colors} colors
 * @param {{threshold?: MaybeNumber, isAbove?: boolean, quantiles?: [number, string][]}} options threshold: where
 *   flagging would begin; isAbove: on which side of it; quantiles: values with their labels, marked above the bars
 * @returns {Figure}
 */
export function distributionFigure(bins, title, colors, { threshold = null, isAbove = true, quantiles = [] } = {}) {
  const middles = bins.map((bin) => (bin.low + bin.high) / 2);
  const isFlagged = (/** @type {Bin} */ bin) =>
    threshold !== null && (isAbove ? bin.high > threshold : bin.low < threshold);
  /** @param {number} x @param {string} color @param {"dot" | "dash"} dash */
  const mark = (x, color, dash) => ({
    type: "line",
    x0: x,
    x1: x,
    yref: "paper",
    y0: 0,
    y1: 1,
    line: { color, width: dash === "dash" ? 1.5 : 1, dash },
  });
  return {
    data: [
      {
        type: "bar",
        x: middles,
        y: bins.map((bin) => bin.count),
        width: bins.map((bin) => bin.high - bin.low || 1),
        customdata: bins.map((bin) => [bin.low, bin.high]),
        marker: { color: bins.map((bin) => (isFlagged(bin) ? colors.dispreferred : colors.other)), line: { width: 0 } },
        hovertemplate: "%{y} pairs from %{customdata[0]:.4~g} to %{customdata[1]:.4~g}<extra></extra>",
      },
    ],
    layout: layout(colors, {
      x: { title },
      y: { title: "pairs", rangemode: "tozero" },
      bargap: 0.06,
      hovermode: "closest",
      showlegend: false,
      margin: { l: 48, r: 12, t: quantiles.length ? 24 : 8, b: 38 },
      shapes: [
        ...quantiles.map(([value]) => mark(value, colors.ink2, "dot")),
        ...(threshold === null ? [] : [mark(threshold, colors.dispreferred, "dash")]),
      ],
      annotations: quantiles.map(([value, label]) => ({
        x: value,
        yref: "paper",
        y: 1,
        yanchor: "bottom",
        showarrow: false,
        text: label,
        font: { size: 11.5, color: colors.ink2 },
      })),
    }),
  };
}

/**
 * @param {string} name
 * @param {Point[]} points
 * @param {string} color
 * @param {string} symbol
 * @param {string} text the hover template
 * @returns {Trace}
 */
function cloud(name, points, color, symbol, text) {
  return {
    type: "scatter",
    mode: "markers",
    name,
    x: points.map((p) => p.x),
    y: points.map((p) => p.y),
    customdata: points.map((p) => p.pair),
    marker: { color: faded(color, 0.65), size: 7, symbol },
    selected: { marker: { opacity: 1, size: 9 } },
    unselected: { marker: { opacity: 0.25 } },
    hovertemplate: text,
  };
}

const isDrawn = (/** @type {Point} */ point) => gap(point.x) !== null && gap(point.y) !== null;

/**
 * @param {Point[]} points
 * @param {string} xTitle
 * @param {string} yTitle
 * @param {Colors} colors
 * @param {{tool?: string}} options what dragging does: "zoom", "select" (a box) or "lasso"
 * @returns {Figure}
 */
export function scatterFigure(points, xTitle, yTitle, colors, { tool = "zoom" } = {}) {
  const shown = points.filter(isDrawn);
  const hover = "pair %{customdata}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>";
  const flagged = shown.filter((p) => p.isFlagged);
  const data = [
    cloud(
      "pairs",
      shown.filter((p) => !p.isFlagged),
      colors.ink,
      "circle",
      hover,
    ),
  ];
  if (flagged.length) data.push(cloud("flagged", flagged, colors.dispreferred, "diamond", hover));
  return {
    data,
    layout: layout(colors, {
      x: { title: xTitle, showgrid: true },
      y: { title: yTitle },
      hovermode: "closest",
      showlegend: flagged.length > 0,
      dragmode: tool,
      // A drawn selection belongs to these axes and flags: other ones clear it.
      selections: [],
      selectionrevision: [tool, xTitle, yTitle, flagged.map((p) => p.pair).join()].join("|"),
    }),
  };
}

/**
 * A measure before training against the displacement that training caused.
 *
 * @param {Point[]} points x: the measure; y: change of log p(y+) in nats
 * @param {string} xTitle
 * @param {Colors} colors
 * @returns {Figure}
 */
export function displacementFigure(points, xTitle, colors) {
  const shown = points.filter(isDrawn);
  const hover = "pair %{customdata}<br>%{x:.4~g}<br>%{y:+.3f} nats<extra></extra>";
  return {
    data: [cloud("pairs", shown, colors.preferred, "circle", hover)],
    layout: layout(colors, {
      x: { title: xTitle, showgrid: true },
      y: { title: "change of log p(y+), nats", zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 },
      hovermode: "closest",
      showlegend: false,
    }),
  };
}

/**
 * @param {Record<string, {histogram?: {start: number, width: number, counts: number[]}}> | null} characters lengths
 *   of prompt, preferred and dispreferred
 * @param {Colors} colors
 * @returns {Figure}
 */
export function lengthsFigure(characters, colors) {
  const parts = [
    { part: "prompt", name: "prompt", color: colors.other },
    { part: "preferred", name: "preferred y+", color: colors.preferred },
    { part: "dispreferred", name: "dispreferred y−", color: colors.dispreferred, dash: "dot" },
  ];
  const data = parts.flatMap(({ part, name, color, dash }) => {
    const histogram = characters?.[part]?.histogram;
    if (!histogram) return [];
    const { start, width, counts } = histogram;
    const edges = counts.map((_, i) => start + i * width);
    return {
      type: "scatter",
      mode: "lines",
      name,
      line: { shape: "hv", color, width: 2, dash },
      x: [...edges, start + counts.length * width],
      y: [...counts, 0],
      hovertemplate: "%{y} from %{x} characters",
    };
  });
  return {
    data,
    layout: layout(colors, {
      x: { title: "characters" },
      y: { title: "pairs", rangemode: "tozero" },
      hovermode: "closest",
    }),
  };
}
