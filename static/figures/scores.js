// Distributions of measures and one measure against another; lengths of a dataset's texts.

import { faded, gap, layout } from "./frame.js";

/** bins: [{low, high, count}] of equal width. threshold: where flagging would begin; isAbove: on
 *  which side of it. */
export function distributionFigure(bins, title, colors, { threshold = null, isAbove = true } = {}) {
  const middles = bins.map((bin) => (bin.low + bin.high) / 2);
  const isFlagged = (bin) => threshold !== null && (isAbove ? bin.high > threshold : bin.low < threshold);
  const figure = layout(colors, {
    x: { title }, y: { title: "pairs", rangemode: "tozero" }, bargap: 0.06, hovermode: "closest", showlegend: false,
  });
  if (threshold !== null) {
    figure.shapes = [{ type: "line", x0: threshold, x1: threshold, yref: "paper", y0: 0, y1: 1, line: { color: colors.dispreferred, width: 1.5, dash: "dash" } }];
  }
  return {
    data: [{
      type: "bar", x: middles, y: bins.map((bin) => bin.count),
      width: bins.map((bin) => (bin.high - bin.low) || 1),
      customdata: bins.map((bin) => [bin.low, bin.high]),
      marker: { color: bins.map((bin) => (isFlagged(bin) ? colors.dispreferred : colors.other)), line: { width: 0 } },
      hovertemplate: "%{y} pairs from %{customdata[0]:.4~g} to %{customdata[1]:.4~g}<extra></extra>",
    }],
    layout: figure,
  };
}

/** points: [{pair, x, y, isFlagged}] */
export function scatterFigure(points, xTitle, yTitle, colors) {
  const shown = points.filter((point) => gap(point.x) !== null && gap(point.y) !== null);
  const trace = (name, chosen, color, symbol) => ({
    type: "scatter", mode: "markers", name, x: chosen.map((p) => p.x), y: chosen.map((p) => p.y),
    customdata: chosen.map((p) => p.pair), marker: { color: faded(color, 0.65), size: 7, symbol },
    hovertemplate: "pair %{customdata}<br>%{x:.4~g}, %{y:.4~g}<extra></extra>",
  });
  const plain = shown.filter((p) => !p.isFlagged);
  const flagged = shown.filter((p) => p.isFlagged);
  const data = [trace("pairs", plain, colors.ink, "circle")];
  if (flagged.length) data.push(trace("flagged", flagged, colors.dispreferred, "diamond"));
  return {
    data,
    layout: layout(colors, { x: { title: xTitle, showgrid: true }, y: { title: yTitle }, hovermode: "closest", showlegend: flagged.length > 0 }),
  };
}

/** characters: {prompt, preferred, dispreferred}, each with histogram {start, width, counts}. */
export function lengthsFigure(characters, colors) {
  const parts = [["prompt", "prompt", colors.other, undefined], ["preferred", "preferred y+", colors.preferred, undefined], ["dispreferred", "dispreferred y−", colors.dispreferred, "dot"]];
  const data = parts.filter(([name]) => characters?.[name]?.histogram).map(([name, label, color, dash]) => {
    const { start, width, counts } = characters[name].histogram;
    const edges = counts.map((_, i) => start + i * width);
    return {
      type: "scatter", mode: "lines", name: label, line: { shape: "hv", color, width: 2, dash },
      x: [...edges, start + counts.length * width], y: [...counts, 0],
      hovertemplate: "%{y} from %{x} characters",
    };
  });
  return { data, layout: layout(colors, { x: { title: "characters" }, y: { title: "pairs", rangemode: "tozero" }, hovermode: "closest" }) };
}
