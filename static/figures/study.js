// The figure of one panel of a study: lines with bands or error bars, or bars. The server sends the numbers.

import { faded, gap, layout, plainText } from "./frame.js";

/** @import { Colors, Figure, StudyPanel, Trace } from "../lib/types.js" */

/** @param {StudyPanel} panel @param {Colors} colors @returns {Figure} */
export function studyFigure(panel, colors) {
  const data = panel.series.flatMap((series, index) => tracesOf(series, index, colors));
  return {
    data,
    layout: layout(colors, {
      x: { title: panel.x_title, ...(panel.series[0]?.kind === "bars" ? { type: "category" } : {}) },
      y: { title: panel.y_title, exponentformat: "e", ...(panel.y_range ? { range: panel.y_range } : {}) },
      showlegend: panel.series.length > 1,
    }),
  };
}

/**
 * @param {StudyPanel["series"][number]} series
 * @param {number} index
 * @param {Colors} colors
 * @returns {Trace[]}
 */
function tracesOf(series, index, colors) {
  const color = series.color === "run" ? colors.runs[index % colors.runs.length] : colors[series.color];
  const name = plainText(series.name);
  const error = series.error
    ? { type: "data", array: series.error.map(gap), color: colors.ink2, thickness: 1.5, width: 4 }
    : undefined;
  if (series.kind === "bars") {
    const x = series.x.map((label) => plainText(String(label)));
    const error_y = series.low && series.high ? interval(series, colors.ink2) : error;
    return [{ type: "bar", name, x, y: series.y.map(gap), marker: { color }, error_y, hovertemplate: HOVER }];
  }
  const line = {
    type: "scatter",
    mode: "lines+markers",
    name,
    x: series.x,
    y: series.y.map(gap),
    line: { color, width: 2 },
    marker: { color, size: series.x.length > 40 ? 1 : 6 },
    error_y: error && { ...error, color },
    hovertemplate: HOVER,
  };
  return series.low && series.high ? [band(series, color), line] : [line];
}

/** Whiskers from the lower to the upper end. @param {StudyPanel["series"][number]} series @param {string} color */
function interval(series, color) {
  const distance = (/** @type {(number | null)[] | null} */ ends) =>
    series.y.map((y, i) => {
      const end = ends?.[i] ?? null;
      return y === null || end === null ? gap(null) : Math.abs(end - y);
    });
  return {
    type: "data",
    symmetric: false,
    array: distance(series.high),
    arrayminus: distance(series.low),
    color,
    thickness: 1.5,
    width: 4,
  };
}

const HOVER = "%{y:.4~g}";

/** @param {StudyPanel["series"][number]} series @param {string} color */
function band(series, color) {
  return {
    type: "scatter",
    mode: "lines",
    x: [...series.x, ...[...series.x].reverse()],
    y: [...(series.high ?? []), ...[...(series.low ?? [])].reverse()].map(gap),
    fill: "toself",
    fillcolor: faded(color, 0.2),
    line: { width: 0, color },
    hoverinfo: "skip",
    showlegend: false,
  };
}

/** The numbers of a panel as columns of a CSV file. @param {StudyPanel} panel */
export function panelColumns(panel) {
  const column = (/** @type {"x" | "y" | "error" | "low" | "high"} */ name) =>
    panel.series.flatMap((series) => series[name] ?? series.x.map(() => null));
  return {
    series: panel.series.flatMap((series) => series.x.map(() => series.name)),
    [panel.x_title || "cell"]: column("x"),
    mean: column("y"),
    sd: column("error"),
    low: column("low"),
    high: column("high"),
  };
}
