// Lines over optimiser steps: the fork, log-probabilities of a probe, numbers of the batches.

import { faded, gap, layout, stepAxis } from "./frame.js";

/** With fewer steps than this a smoothed line only lags behind the raw one. */
const FEWEST_SMOOTHED = 30;

const DASHES = ["dash", "dot", "dashdot", "longdash"];
const BAND = 0.13;
const MANY_BANDS = 3;
const FEWEST_DECADES = 2;

export function line(x, y, name, color, options = {}) {
  const { width = 2, dash, ...rest } = options;
  return {
    type: "scatter",
    mode: x.length === 1 ? "markers" : "lines",
    x: [...x],
    y: y.map(gap),
    name,
    line: { color, width, dash, shape: "linear" },
    marker: { color, size: 7 },
    connectgaps: false,
    ...rest,
  };
}

const hasNumbers = (values) => !values.length || values.some((value) => gap(value) !== null);

/** Probabilities at the fork, the token groups as bands from zero behind them.
 *
 *  fork: {steps, preferred, dispreferred, other, groups: [{name, probs}], preferredToken,
 *  dispreferredToken}; a free prompt has no responses: its lines are null throughout. */
export function forkFigure(fork, colors, { log = false } = {}) {
  const hover = { hovertemplate: "%{y:.4~g}" };
  const strong = (values, name, color) =>
    hasNumbers(values) ? [line(fork.steps, values, name, color, { width: 2.5, ...hover })] : [];
  const opacity = fork.groups.length < MANY_BANDS ? BAND : BAND / 2;
  const bands = fork.groups.map((group, i) => {
    const color = colors.series[i % 4];
    return line(fork.steps, group.probs, group.name, color, {
      width: 1.5,
      dash: DASHES[i % 4],
      fill: "tozeroy",
      fillcolor: faded(color, opacity),
      legendrank: 1100 + i,
      ...hover,
    });
  });
  const data = [
    ...bands,
    ...strong(fork.preferred, `preferred ${fork.preferredToken}`, colors.preferred),
    ...strong(fork.dispreferred, `dispreferred ${fork.dispreferredToken}`, colors.dispreferred),
    ...strong(fork.other, "all other", colors.other),
  ];
  return {
    data,
    layout: layout(colors, {
      x: stepAxis(fork.steps),
      y: probabilityAxis(data, log),
    }),
  };
}

/** Single tokens at one position. tokens: [{name, probs, role: "preferred", "dispreferred" or none}] */
export function tokensFigure(steps, tokens, colors, { log = false } = {}) {
  let others = 0;
  const look = (role) => {
    if (role) return { color: colors[role] };
    const i = others++;
    return { color: colors.series[i % 4], dash: i < 4 ? undefined : DASHES[i % 4] };
  };
  const data = tokens.map(({ name, probs, role }) => {
    const { color, dash } = look(role);
    // A token that is not followed is known where it stands in a ledger.
    return line(steps, probs, name, color, { dash, connectgaps: true, hovertemplate: "%{y:.4~g}" });
  });
  return {
    data,
    layout: layout(colors, { x: stepAxis(steps), y: probabilityAxis(data, log) }),
  };
}

const probabilityAxis = (lines, log) =>
  log ? { title: "probability (log)", type: "log", ...logTicks(lines) } : { title: "probability", rangemode: "tozero" };

/** Marks at the powers of ten, or also between them where there is hardly one. */
function logTicks(lines) {
  let [low, high] = [Infinity, 0];
  for (const value of lines.flatMap(({ y }) => y)) {
    if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return { tickformat: "~g", ...(high < low * 10 ** FEWEST_DECADES ? {} : { dtick: 1 }) };
}

/** Change of log p since the first step, in nats. change: {steps, preferred, dispreferred};
 *  onset: the step from which the pair is displaced, marked where there is one. */
export function changeFigure(change, colors, { onset = null } = {}) {
  const hover = { hovertemplate: "%{y:+.4f}" };
  const figure = layout(colors, {
    x: stepAxis(change.steps),
    y: { title: "change of log p, nats", zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 },
  });
  if (onset !== null) Object.assign(figure, onsetMark(onset, change.steps.at(-1), colors));
  return {
    data: [
      line(change.steps, change.preferred, "preferred y+", colors.preferred, { width: 2.5, ...hover }),
      line(change.steps, change.dispreferred, "dispreferred y−", colors.dispreferred, { width: 2.5, ...hover }),
    ],
    layout: figure,
  };
}

function onsetMark(step, last, colors) {
  // Towards the side where there is room for the words.
  const isLate = step > last / 2;
  return {
    shapes: [
      {
        type: "line",
        x0: step,
        x1: step,
        yref: "paper",
        y0: 0,
        y1: 1,
        line: { color: colors.ink2, width: 1, dash: "dot" },
      },
    ],
    annotations: [
      {
        x: step,
        yref: "paper",
        y: 0.98,
        yanchor: "top",
        xanchor: isLate ? "right" : "left",
        showarrow: false,
        text: isLate ? `displaced from step ${step} ` : ` displaced from step ${step}`,
        font: { size: 12, color: colors.ink2 },
      },
    ],
  };
}

/** Exponential moving average over steps that may lie apart, corrected for its start; leaves gaps
 *  as they are. weight: what is kept of the past from one step to the next. */
export function smoothed(values, weight, steps = values.map((_, i) => i)) {
  let sum = 0;
  let mass = 0;
  let before = null;
  return values.map((value, i) => {
    if (gap(value) === null) return null;
    const kept = before === null ? weight : weight ** Math.max(1, steps[i] - before);
    before = steps[i];
    sum = kept * sum + (1 - kept) * value;
    mass = kept * mass + (1 - kept);
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

/** Likelihood of y+ against the margin, in the order of the steps; the last one is marked. */
export function phaseFigure(steps, margins, changes, colors) {
  const last = steps.length - 1;
  const hover = "step %{customdata}<br>margin %{x:+.4f}<br>change %{y:+.4f}<extra></extra>";
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
