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
 * @param {{weight?: number, unit?: string, y?: Layout, format?: string, phaseEnd?: number | null}} options weight: of
 *   the smoothing; y: more of the vertical axis; format: d3's, of the hovered value; phaseEnd: the last step of a first
 *   phase, behind which a line is drawn
 * @returns {Figure}
 */
export function batchFigure(
  steps,
  lines,
  colors,
  { weight = 0.8, unit = "", y = {}, format = ".4~g", phaseEnd = null } = {},
) {
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
      line(steps, smoothedByPhase(values, weight, steps, phaseEnd), name, hue, {
        legendgroup: name,
        hovertemplate: `%{y:${format}}`,
      }),
    ];
  });
  return {
    data,
    layout: layout(colors, {
      x: stepAxis(steps),
      y: { title: unit, ...y },
      showlegend: lines.length > 1,
      ...(phaseEnd === null ? {} : phaseMark(phaseEnd + 0.5, colors)),
    }),
  };
}

/**
 * Smoothed apart on both sides of a phase's end: the two have different losses.
 *
 * @param {MaybeNumber[]} values
 * @param {number} weight
 * @param {number[]} steps
 * @param {number | null} phaseEnd
 */
function smoothedByPhase(values, weight, steps, phaseEnd) {
  const later = phaseEnd === null ? 0 : steps.filter((step) => step <= phaseEnd).length;
  return [
    ...smoothed(values.slice(0, later), weight, steps.slice(0, later)),
    ...smoothed(values.slice(later), weight, steps.slice(later)),
  ];
}

/**
 * The last step of a first phase, which has no margin: its reference is only made by that phase. null without one.
 *
 * @param {number[]} steps ascending
 * @param {MaybeNumber[]} margins
 */
export function firstPhaseEnd(steps, margins) {
  const begins = margins.findIndex((margin) => margin !== null);
  if (begins === 0 || !steps.length) return null;
  return begins < 0 ? steps[steps.length - 1] : steps[begins - 1];
}

/** @param {number} at @param {Colors} colors @returns {Layout} */
function phaseMark(at, colors) {
  return {
    shapes: [
      {
        type: "line",
        x0: at,
        x1: at,
        yref: "paper",
        y0: 0,
        y1: 1,
        line: { color: colors.ink2, width: 1, dash: "dot" },
      },
    ],
    annotations: [
      {
        x: at,
        yref: "paper",
        y: 1,
        xanchor: "left",
        yanchor: "top",
        text: " the objective",
        showarrow: false,
        font: { size: 11, color: colors.ink2 },
      },
    ],
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
