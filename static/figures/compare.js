// Figure of one metric of several runs. A run has the same color and dash on every page, and never the colors of
// preferred and dispreferred.

/** @import { Colors, Figure, MaybeNumber } from "../lib/types.js" */

import { gap, layout } from "./frame.js";

const DASHES = ["solid", "dash", "dot", "dashdot"];

/** Derived from the run's id: neighbors differ in hue, then in dash. @param {number} id @param {Colors} colors */
export function runStyle(id, colors) {
  const hues = colors.runs;
  return { color: hues[id % hues.length], dash: DASHES[Math.floor(id / hues.length) % DASHES.length] };
}

/**
 * @param {{id: number, name: string, x: number[], y: MaybeNumber[]}[]} runs
 * @param {string} xTitle
 * @param {string} yTitle
 * @param {Colors} colors
 * @returns {Figure}
 */
export function compareFigure(runs, xTitle, yTitle, colors) {
  return {
    data: runs.map((run) => {
      const { color, dash } = runStyle(run.id, colors);
      return {
        type: "scatter",
        mode: run.x.length === 1 ? "markers" : "lines",
        name: run.name,
        x: [...run.x],
        y: run.y.map(gap),
        line: { color, dash, width: 2 },
        marker: { color, size: 7 },
        hovertemplate: "%{y:.4~g}",
      };
    }),
    layout: layout(colors, { x: { title: xTitle }, y: { title: yTitle } }),
  };
}
