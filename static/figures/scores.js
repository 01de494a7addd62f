// Distributions of measures, one measure against another, and against what training did; lengths
// of a dataset's texts.

import { faded, gap, layout } from "./frame.js";

/** bins: [{low, high, count}] of equal width. threshold: where flagging would begin; isAbove: on
 *  which side of it. quantiles: [[value, label]] marked above the bars. */
export function distributionFigure(bins, title, colors, { threshold = null, isAbove = true, quantiles = [] } = {}) {
  const middles = bins.map((bin) => (bin.low + bin.high) / 2);
  const isFlagged = (bin) => threshold !== null && (isAbove ? bin.high > threshold : bin.low < threshold);
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

const isDrawn = (point) => gap(point.x) !== null && gap(point.y) !== null;

/** points: [{pair, x, y, isFlagged}]; tool: what dragging does, "zoom", "select" (box) or "lasso". */
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
      // What was drawn around belongs to these axes and flags; with others it is gone.
      selections: [],
      selectionrevision: [tool, xTitle, yTitle, flagged.map((p) => p.pair).join()].join("|"),
    }),
  };
}

/** What a measure said before training against what training did.
 *  points: [{pair, x: the measure, y: change of log p(y+), nats}] */
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

/** characters: {prompt, preferred, dispreferred}, each with histogram {start, width, counts}. */
export function lengthsFigure(characters, colors) {
  const parts = [
    ["prompt", "prompt", colors.other, undefined],
    ["preferred", "preferred y+", colors.preferred, undefined],
    ["dispreferred", "dispreferred y−", colors.dispreferred, "dot"],
  ];
  const data = parts
    .filter(([name]) => characters?.[name]?.histogram)
    .map(([name, label, color, dash]) => {
      const { start, width, counts } = characters[name].histogram;
      const edges = counts.map((_, i) => start + i * width);
      return {
        type: "scatter",
        mode: "lines",
        name: label,
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
