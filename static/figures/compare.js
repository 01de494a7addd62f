// One number of several runs over each other. A run has the same colour and dash everywhere, and
// never the colours of preferred and dispreferred.

import { gap, layout } from "./frame.js";

const DASHES = ["solid", "dash", "dot", "dashdot"];

/** Stable by the run's id: neighbours differ in hue, then in dash. */
export function runStyle(id, colors) {
  const hues = colors.runs;
  return { color: hues[id % hues.length], dash: DASHES[Math.floor(id / hues.length) % DASHES.length] };
}

/** runs: [{id, name, x, y}] */
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
