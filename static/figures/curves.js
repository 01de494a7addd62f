// Figures of one probe over optimizer steps: probabilities at the fork, changes of log-probability.

import { faded, gap, layout, stepAxis } from "./frame.js";

/** @import { Colors, Figure, Layout, MaybeNumber, Role, Trace } from "../lib/types.js" */

const DASHES = ["dash", "dot", "dashdot", "longdash"];
/** Opacity of a token group's band; half of it from MANY_BANDS groups on. */
const BAND = 0.13;
const MANY_BANDS = 3;
/** On a log scale of fewer decades, ticks also stand between the powers of ten. */
const FEWEST_DECADES = 2;

/**
 * A line trace; a point where there is only one step. Values that are not finite are gaps.
 *
 * @param {number[]} x
 * @param {MaybeNumber[]} y
 * @param {string} name
 * @param {string} color
 * @param {Trace} options width and dash of the line; everything else goes into the trace as it is
 * @returns {Trace}
 */
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

/** Also true of an empty list. @param {MaybeNumber[]} values */
const hasNumbers = (values) => !values.length || values.some((value) => gap(value) !== null);

/**
 * Probabilities at the fork, the token groups as bands from zero behind them.
 *
 * @param {{
 *   steps: number[], preferred: MaybeNumber[], dispreferred: MaybeNumber[], other: MaybeNumber[],
 *   groups: {name: string, probs: MaybeNumber[]}[], preferredToken: string, dispreferredToken: string,
 * }} fork a prompt has no responses: its three lines are null throughout and left out
 * @param {Colors} colors
 * @param {{log?: boolean, marks?: {step: number, text: string}[]}} options log: whether the vertical axis is
 *   logarithmic; marks: steps of note
 * @returns {Figure}
 */
export function forkFigure(fork, colors, { log = false, marks = [] } = {}) {
  const hover = { hovertemplate: "%{y:.4~g}" };
  /** @param {MaybeNumber[]} values @param {string} name @param {string} color */
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
      ...(marks.length ? stepMarks(marks, fork.steps.at(-1) ?? 0, colors) : {}),
    }),
  };
}

/**
 * Probabilities of single tokens at one position.
 *
 * @param {number[]} steps
 * @param {{name: string, probs: MaybeNumber[], role?: Role | null}[]} tokens
 * @param {Colors} colors
 * @param {{log?: boolean}} options whether the vertical axis is logarithmic
 * @returns {Figure}
 */
export function tokensFigure(steps, tokens, colors, { log = false } = {}) {
  let others = 0;
  const style = (/** @type {Role | null | undefined} */ role) => {
    if (role) return { color: colors[role] };
    const i = others;
    others += 1;
    return { color: colors.series[i % 4], dash: i < 4 ? undefined : DASHES[i % 4] };
  };
  const data = tokens.map(({ name, probs, role }) => {
    const { color, dash } = style(role);
    // A token that is not watched is known only at the steps whose ledger lists it.
    return line(steps, probs, name, color, { dash, connectgaps: true, hovertemplate: "%{y:.4~g}" });
  });
  return {
    data,
    layout: layout(colors, { x: stepAxis(steps), y: probabilityAxis(data, log) }),
  };
}

/** @param {Trace[]} lines @param {boolean} log @returns {Layout} */
const probabilityAxis = (lines, log) =>
  log ? { title: "probability (log)", type: "log", ...logTicks(lines) } : { title: "probability", rangemode: "tozero" };

/** Ticks at the powers of ten, and between them on a scale of few decades. @param {Trace[]} lines */
function logTicks(lines) {
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const value of lines.flatMap(({ y }) => y)) {
    if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return { tickformat: "~g", ...(high < low * 10 ** FEWEST_DECADES ? {} : { dtick: 1 }) };
}

/**
 * Change of both responses' log-probability since the first step.
 *
 * @param {{steps: number[], preferred: MaybeNumber[], dispreferred: MaybeNumber[]}} change in nats
 * @param {Colors} colors
 * @param {{onset?: number | null}} options onset: the step from which on the pair is displaced, which is marked
 * @returns {Figure}
 */
export function changeFigure(change, colors, { onset = null } = {}) {
  const hover = { hovertemplate: "%{y:+.4f}" };
  const figure = layout(colors, {
    x: stepAxis(change.steps),
    y: { title: "change of log p, nats", zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 },
  });
  if (onset !== null) {
    const marks = [{ step: onset, text: `displaced from step ${onset}` }];
    Object.assign(figure, stepMarks(marks, change.steps.at(-1) ?? onset, colors));
  }
  return {
    data: [
      line(change.steps, change.preferred, "preferred y+", colors.preferred, { width: 2.5, ...hover }),
      line(change.steps, change.dispreferred, "dispreferred y−", colors.dispreferred, { width: 2.5, ...hover }),
    ],
    layout: figure,
  };
}

/**
 * Dotted lines across the chart at steps of note, each with a text on the side that has room for it.
 *
 * @param {{step: number, text: string}[]} marks
 * @param {number} last the last step
 * @param {Colors} colors
 * @returns {Layout}
 */
function stepMarks(marks, last, colors) {
  return {
    shapes: marks.map(({ step }) => ({
      type: "line",
      x0: step,
      x1: step,
      yref: "paper",
      y0: 0,
      y1: 1,
      line: { color: colors.ink2, width: 1, dash: "dot" },
    })),
    annotations: marks.map(({ step, text }, i) => {
      const isLate = step > last / 2;
      return {
        x: step,
        yref: "paper",
        // One below the other, so that texts of neighboring steps do not overlap.
        y: 0.98 - 0.08 * i,
        yanchor: "top",
        xanchor: isLate ? "right" : "left",
        showarrow: false,
        text: isLate ? `${text} ` : ` ${text}`,
        font: { size: 12, color: colors.ink2 },
      };
    }),
  };
}
