// Figures of all probes together: quantile bands over a fixed set of pairs, and the displaced fraction, by step.

import { line } from "./curves.js";
import { faded, gap, layout, stepAxis } from "./frame.js";

/** @import { Bands, Colors, Figure, MaybeNumber, QuantileName, Quantiles, Trace } from "../lib/types.js" */

/** Opacities of the band from 5 % to 95 % and of the one from 25 % to 75 %. */
const OUTER = 0.12;
const INNER = 0.22;

/**
 * The middle half of the pairs as a band, the middle 90 % as a fainter one.
 *
 * @param {number[]} steps
 * @param {Quantiles} quantiles
 * @param {string} name
 * @param {string} color #rrggbb
 * @returns {Trace[]}
 */
function band(steps, quantiles, name, color) {
  const edge = (/** @type {MaybeNumber[]} */ values, /** @type {Trace} */ options) => ({
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

/** @param {number[]} steps @param {Quantiles} quantiles @param {string} name @param {string} color */
const median = (steps, quantiles, name, color) =>
  line(steps, quantiles.q50, name, color, {
    width: 2.5,
    legendgroup: name,
    hovertemplate: "median %{y:+.4f}",
  });

/**
 * Medians as lines over the bands around them.
 *
 * @param {number[]} steps
 * @param {{name: string, quantiles: Quantiles, color: string}[]} parts in nats; color: #rrggbb
 * @param {Colors} colors
 * @param {{title: string}} options of the vertical axis
 * @returns {Figure}
 */
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

/**
 * The share of the probes that are displaced at each step.
 *
 * @param {number[]} steps
 * @param {MaybeNumber[]} fractions
 * @param {Colors} colors
 * @returns {Figure}
 */
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

/**
 * Concatenate two responses of /probes/bands; where their steps overlap, `after` wins.
 *
 * @param {Bands} before
 * @param {Bands} after
 * @returns {Bands}
 */
export function joinBands(before, after) {
  const first = after.steps[0] ?? Number.POSITIVE_INFINITY;
  const kept = before.steps.filter((step) => step < first).length;
  /** @template T @param {T[]} a @param {T[]} b */
  const join = (a, b) => [...a.slice(0, kept), ...b];
  const joinQuantiles = (/** @type {"preferred_change" | "dispreferred_change" | "margin"} */ name) =>
    mapQuantiles(after[name], (values, q) => join(before[name][q], values));
  return {
    ...after,
    steps: join(before.steps, after.steps),
    preferred_change: joinQuantiles("preferred_change"),
    dispreferred_change: joinQuantiles("dispreferred_change"),
    margin: joinQuantiles("margin"),
    displaced_fraction: join(before.displaced_fraction, after.displaced_fraction),
  };
}

/**
 * Replace what is known of a range of steps by the response for that range.
 *
 * @param {Bands} bands
 * @param {Bands} stretch
 * @returns {Bands}
 */
export function insertBands(bands, stretch) {
  if (!stretch.steps.length) return bands;
  const rest = bands.steps.findIndex((step) => step > stretch.steps[stretch.steps.length - 1]);
  const joined = joinBands(bands, stretch);
  return rest < 0 ? joined : joinBands(joined, cut(bands, rest));
}

/**
 * @param {Quantiles} quantiles
 * @param {(values: MaybeNumber[], name: QuantileName) => MaybeNumber[]} change
 * @returns {Quantiles}
 */
function mapQuantiles(quantiles, change) {
  const names = /** @type {QuantileName[]} */ (Object.keys(quantiles));
  return /** @type {Quantiles} */ (Object.fromEntries(names.map((name) => [name, change(quantiles[name], name)])));
}

/** The bands from an index on. @param {Bands} bands @param {number} from @returns {Bands} */
function cut(bands, from) {
  const rest = (/** @type {Quantiles} */ quantiles) => mapQuantiles(quantiles, (values) => values.slice(from));
  return {
    ...bands,
    steps: bands.steps.slice(from),
    preferred_change: rest(bands.preferred_change),
    dispreferred_change: rest(bands.dispreferred_change),
    margin: rest(bands.margin),
    displaced_fraction: bands.displaced_fraction.slice(from),
  };
}
