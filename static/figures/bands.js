// All probes together: how a change spreads over a fixed set of pairs, step by step.

import { line } from "./curves.js";
import { faded, gap, layout, stepAxis } from "./frame.js";

const OUTER = 0.12;
const INNER = 0.22;

/** Half of the pairs as a band, 90 % of them as a fainter one.
 *  quantiles: {q05, q25, q50, q75, q95}, each one value a step. */
function band(steps, quantiles, name, color) {
  const edge = (values, options) => ({
    type: "scatter",
    mode: "lines",
    x: [...steps],
    y: values.map(gap),
    line: { width: 0, color },
    legendgroup: name,
    showlegend: false,
    hoverinfo: "skip",
    ...options,
  });
  return [
    edge(quantiles.q05, { name: `${name}, 5 %` }),
    edge(quantiles.q95, { name: `${name}, 95 %`, fill: "tonexty", fillcolor: faded(color, OUTER) }),
    edge(quantiles.q25, { name: `${name}, 25 %` }),
    edge(quantiles.q75, { name: `${name}, 75 %`, fill: "tonexty", fillcolor: faded(color, INNER) }),
  ];
}

const median = (steps, quantiles, name, color) =>
  line(steps, quantiles.q50, name, color, {
    width: 2.5,
    legendgroup: name,
    hovertemplate: "median %{y:+.4f}",
  });

/** Medians as lines over the bands around them.
 *  parts: [{name, quantiles, color: a hex colour}], in nats. */
export function bandsFigure(steps, parts, colors, { title }) {
  return {
    data: [
      ...parts.flatMap(({ name, quantiles, color }) => band(steps, quantiles, name, color)),
      ...parts.map(({ name, quantiles, color }) => median(steps, quantiles, name, color)),
    ],
    layout: layout(colors, {
      x: stepAxis(steps),
      showlegend: parts.length > 1,
      y: { title, zeroline: true, zerolinecolor: colors.ink2, zerolinewidth: 1 },
    }),
  };
}

/** The share of the probes that are displaced at each step. */
export function displacedFigure(steps, fractions, colors) {
  return {
    data: [
      line(steps, fractions, "displaced", colors.dispreferred, {
        width: 2.5,
        fill: "tozeroy",
        fillcolor: faded(colors.dispreferred, OUTER),
        hovertemplate: "%{y:.0%}",
      }),
    ],
    layout: layout(colors, {
      x: stepAxis(steps),
      showlegend: false,
      y: { title: "share of probes", range: [-0.03, 1.03], tickformat: ".0%" },
    }),
  };
}

/** The answers of /probes/bands put one after the other: what comes twice replaces what was there. */
export function joinBands(before, after) {
  const first = after.steps[0] ?? Infinity;
  const kept = before.steps.filter((step) => step < first).length;
  const join = (a, b) => [...a.slice(0, kept), ...b];
  const joinQuantiles = (name) =>
    Object.fromEntries(Object.keys(after[name]).map((q) => [q, join(before[name][q], after[name][q])]));
  return {
    ...after,
    steps: join(before.steps, after.steps),
    preferred_change: joinQuantiles("preferred_change"),
    dispreferred_change: joinQuantiles("dispreferred_change"),
    margin: joinQuantiles("margin"),
    displaced_fraction: join(before.displaced_fraction, after.displaced_fraction),
  };
}

/** An answer for a stretch of steps in the place of what was known of that stretch. */
export function insertBands(bands, stretch) {
  if (!stretch.steps.length) return bands;
  const rest = bands.steps.findIndex((step) => step > stretch.steps.at(-1));
  const joined = joinBands(bands, stretch);
  return rest < 0 ? joined : joinBands(joined, cut(bands, rest));
}

function cut(bands, from) {
  const rest = (quantiles) =>
    Object.fromEntries(Object.entries(quantiles).map(([name, values]) => [name, values.slice(from)]));
  return {
    ...bands,
    steps: bands.steps.slice(from),
    preferred_change: rest(bands.preferred_change),
    dispreferred_change: rest(bands.dispreferred_change),
    margin: rest(bands.margin),
    displaced_fraction: bands.displaced_fraction.slice(from),
  };
}
