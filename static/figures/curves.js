// Lines over optimiser steps: the fork, log-probabilities of a probe, numbers of the batches.

import { faded, gap, layout } from "./frame.js";

/** With fewer steps than this a smoothed line only lags behind the raw one. */
const FEWEST_SMOOTHED = 30;

const DASHES = ["dash", "dot", "dashdot", "longdash"];

function line(x, y, name, color, options = {}) {
  const { width = 2, dash, ...rest } = options;
  return {
    type: "scatter", mode: x.length === 1 ? "markers" : "lines", x: [...x], y: y.map(gap), name,
    line: { color, width, dash, shape: "linear" }, marker: { color, size: 7 }, connectgaps: false, ...rest,
  };
}

/** Probabilities at the fork. fork: {steps, preferred, dispreferred, other, groups: [{name, probs}],
 *  preferredToken, dispreferredToken} */
export function forkFigure(fork, colors, { log = false } = {}) {
  const hover = { hovertemplate: "%{y:.4f}" };
  const data = [
    line(fork.steps, fork.preferred, `preferred ${fork.preferredToken}`, colors.preferred, { width: 2.5, ...hover }),
    line(fork.steps, fork.dispreferred, `dispreferred ${fork.dispreferredToken}`, colors.dispreferred, { width: 2.5, ...hover }),
    line(fork.steps, fork.other, "all other", colors.other, { width: 2.5, ...hover }),
    ...fork.groups.map((group, i) =>
      line(fork.steps, group.probs, group.name, colors.series[i % 4], { dash: DASHES[i % 4], ...hover })),
  ];
  return {
    data,
    layout: layout(colors, {
      x: { title: "step" },
      y: log
        ? { title: "probability (log)", type: "log", dtick: 1, exponentformat: "power" }
        : { title: "probability", rangemode: "tozero" },
    }),
  };
}

/** Change of log p since the first step, in nats. change: {steps, preferred, dispreferred} */
export function changeFigure(change, colors) {
  const hover = { hovertemplate: "%{y:+.4f}" };
  return {
    data: [
      line(change.steps, change.preferred, "preferred y+", colors.preferred, { width: 2.5, ...hover }),
      line(change.steps, change.dispreferred, "dispreferred y−", colors.dispreferred, { width: 2.5, ...hover }),
    ],
    layout: layout(colors, {
      x: { title: "step" },
      y: { title: "change of log p, nats", zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 },
    }),
  };
}

/** Exponential moving average, corrected for its start; leaves gaps as they are. */
export function smoothed(values, weight) {
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (gap(value) === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

/** Each line raw and faint, and smoothed above it.
 *  lines: [{name, values, color: "preferred" | "dispreferred" | "ink"}] */
export function batchFigure(steps, lines, colors, { weight = 0.8, unit = "", y = {}, format = ".4~g" } = {}) {
  const data = lines.flatMap(({ name, values, color }) => {
    const hue = colors[color];
    const isSmooth = weight > 0 && steps.length >= FEWEST_SMOOTHED;
    const raw = line(steps, values, isSmooth ? `${name}, raw` : name, isSmooth ? faded(hue, 0.3) : hue, {
      width: isSmooth ? 1 : 2, legendgroup: name, showlegend: !isSmooth, hovertemplate: `%{y:${format}}`,
    });
    if (!isSmooth) return [raw];
    return [raw, line(steps, smoothed(values, weight), name, hue, {
      legendgroup: name, hovertemplate: `%{y:${format}}`,
    })];
  });
  return {
    data,
    layout: layout(colors, { x: { title: "step" }, y: { title: unit, ...y }, showlegend: lines.length > 1 }),
  };
}

/** Likelihood of y+ against the margin, in the order of the steps. */
export function phaseFigure(steps, margins, changes, colors) {
  const last = steps.length - 1;
  const data = [{
    type: "scatter", mode: "lines+markers", x: margins.map(gap), y: changes.map(gap),
    customdata: [...steps], line: { color: faded(colors.other, 0.45), width: 1 },
    marker: { size: 5, color: [...steps], colorscale: colors.dark
      ? [[0, "#3a4049"], [1, "#e8eaed"]] : [[0, "#cfd2d6"], [1, "#17191d"]] },
    hovertemplate: "step %{customdata}<br>margin %{x:+.4f}<br>change %{y:+.4f}<extra></extra>", showlegend: false,
  }];
  if (last >= 0) {
    data.push({
      type: "scatter", mode: "markers", x: [gap(margins[last])], y: [gap(changes[last])],
      marker: { size: 11, color: colors.preferred, line: { color: colors.surface, width: 2 } },
      hoverinfo: "skip", name: "now", showlegend: false,
    });
  }
  const zero = { zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 };
  return {
    data,
    layout: layout(colors, {
      x: { title: "margin, nats", showgrid: true, ...zero }, y: { title: "change of log p(y+), nats", ...zero },
      hovermode: "closest", showlegend: false,
    }),
  };
}
