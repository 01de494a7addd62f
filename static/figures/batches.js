// Figures of batch metrics: lines over optimizer steps with smoothing, and likelihood against margin.

import { line } from "./curves.js";
import { faded, gap, layout, stepAxis } from "./frame.js";

/** @import { Colors, Figure, Layout, MaybeNumber, Trace } from "../lib/types.js" */

/** With fewer steps than this a smoothed line only lags behind the raw one. */
const FEWEST_SMOOTHED = 30;

/**
 * Exponential moving average with bias correction, over steps that may be unevenly spaced; gaps stay gaps.
 *
 * @param {MaybeNumber[]} values
 * @param {number} weight what is kept of the past from one step to the next
 * @param {number[]} steps
 * @returns {MaybeNumber[]}
 */
export function smoothed(values, weight, steps = values.map((_, i) => i)) {
  let sum = 0;
  let mass = 0;
  /** @type {number | null} */
  let before = null;
  return values.map((entry, i) => {
    const value = gap(entry);
    if (value === null) return null;
    const kept = before === null ? weight : weight ** Math.max(1, steps[i] - before);
    before = steps[i];
    sum = kept * sum + (1 - kept) * value;
    mass = kept * mass + (1 - kept);
    return sum / mass;
  });
}

/**
 * Each metric as a faint raw line with its smoothed line above it.
 *
 * @param {number[]} steps
 * @param {{name: string, values: MaybeNumber[], color: "preferred" | "dispreferred" | "ink"}[]} lines
 * @param {Colors} colors
 * @param {{weight?: number, unit?: string, y?: Layout, format?: string}} options weight: of the smoothing; y: more of
 *   the vertical axis; format: d3's, of the hovered value
 * @returns {Figure}
 */
export function batchFigure(steps, lines, colors, { weight = 0.8, unit = "", y = {}, format = ".4~g" } = {}) {
  const data = lines.flatMap(({ name, values, color }) => {
    const hue = colors[color];
    const isSmooth = weight > 0 && steps.length >= FEWEST_SMOOTHED;
    const raw = line(steps, values, isSmooth ? `${name}, raw` : name, isSmooth ? faded(hue, 0.3) : hue, {
      width: isSmooth ? 1 : 2,
      legendgroup: name,
      showlegend: !isSmooth,
      hovertemplate: `%{y:${format}}`,
    });
    if (!isSmooth) return [raw];
    return [
      raw,
      line(steps, smoothed(values, weight, steps), name, hue, {
        legendgroup: name,
        hovertemplate: `%{y:${format}}`,
      }),
    ];
  });
  return {
    data,
    layout: layout(colors, { x: stepAxis(steps), y: { title: unit, ...y }, showlegend: lines.length > 1 }),
  };
}

/**
 * Change of the log-probability of y+ against the margin, joined in the order of the steps; the last one is marked.
 *
 * @param {number[]} steps
 * @param {MaybeNumber[]} margins
 * @param {MaybeNumber[]} changes
 * @param {Colors} colors
 * @returns {Figure}
 */
export function phaseFigure(steps, margins, changes, colors) {
  const last = steps.length - 1;
  const hover = "step %{customdata}<br>margin %{x:+.4f}<br>change %{y:+.4f}<extra></extra>";
  /** @type {Trace[]} */
  const data = [
    {
      type: "scatter",
      mode: "lines+markers",
      name: "steps",
      x: margins.map(gap),
      y: changes.map(gap),
      customdata: [...steps],
      line: { color: faded(colors.other, 0.45), width: 1 },
      marker: {
        size: 5,
        color: [...steps],
        colorscale: colors.dark
          ? [
              [0, "#3a4049"],
              [1, "#e8eaed"],
            ]
          : [
              [0, "#cfd2d6"],
              [1, "#17191d"],
            ],
      },
      hovertemplate: hover,
      showlegend: false,
    },
  ];
  if (last >= 0) {
    data.push({
      type: "scatter",
      mode: "markers",
      x: [gap(margins[last])],
      y: [gap(changes[last])],
      meta: { window: 1 },
      marker: { size: 11, color: colors.preferred, line: { color: colors.surface, width: 2 } },
      hoverinfo: "skip",
      name: "now",
      showlegend: false,
    });
  }
  const zero = { zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 };
  return {
    data,
    layout: layout(colors, {
      x: { title: "margin, nats", showgrid: true, ...zero },
      y: { title: "change of log p(y+), nats", ...zero },
      hovermode: "closest",
      showlegend: false,
    }),
  };
}
