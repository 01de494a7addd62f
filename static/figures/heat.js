// Figure of tokens × steps as a heat map: change of each token's log-probability since the first step.

import { gap, layout, stepAxis, tokenLabel } from "./frame.js";

/** @import { Colors, Figure, MaybeNumber } from "../lib/types.js" */

/** About as many columns as can be distinguished on a screen. */
export const MOST_COLUMNS = 320;
const MOST_LABELS = 28;

/**
 * @param {MaybeNumber[][]} logprobs [step][token], nats
 * @param {string[]} tokens
 * @returns {MaybeNumber[][]} [token][step]: change since the first step; 0 at the first step
 */
export function heatChanges(logprobs, tokens) {
  const first = logprobs[0] ?? [];
  /** @param {MaybeNumber[]} row @param {number} k */
  const change = (row, k) => {
    const [now, before] = [gap(row[k]), gap(first[k])];
    return now === null || before === null ? null : now - before;
  };
  return tokens.map((_, k) => logprobs.map((row) => change(row, k)));
}

/** The largest absolute change, so that two maps can share one scale. @param {MaybeNumber[][]} changes */
export function largestChange(changes) {
  let largest = 0;
  for (const row of changes) {
    for (const value of row) if (value !== null) largest = Math.max(largest, Math.abs(value));
  }
  return largest;
}

/**
 * Downsampling: of each stretch of steps the one with the largest change of any token, and the first and last step.
 *
 * @param {MaybeNumber[][]} changes [token][step]
 * @param {number} most about so many are kept
 * @returns {number[]} indices of steps
 */
export function heatColumns(changes, most = MOST_COLUMNS) {
  const length = changes[0]?.length ?? 0;
  const all = Array.from({ length }, (_, i) => i);
  if (length <= most) return all;
  const size = (/** @type {number} */ i) =>
    changes.reduce((largest, row) => Math.max(largest, Math.abs(row[i] ?? 0)), 0);
  const stretch = (/** @type {number} */ s) =>
    all.slice(Math.floor((s * length) / most), Math.floor(((s + 1) * length) / most));
  const kept = Array.from({ length: most }, (_, s) =>
    stretch(s).reduce((best, i) => (size(i) > size(best) ? i : best)),
  );
  return [...new Set([0, ...kept, length - 1])];
}

/** Height in pixels with room for a label per token, within bounds. @param {number} tokens how many */
export function heatHeight(tokens) {
  return Math.max(200, Math.min(560, 60 + 18 * tokens));
}

/**
 * @param {{steps: number[], tokens: string[], logprobs: MaybeNumber[][], limit?: number}} numbers logprobs:
 *   [step][token]; limit: the change at the ends of the color scale, by default the largest one
 * @param {Colors} colors
 * @returns {Figure}
 */
export function heatFigure({ steps, tokens, logprobs, limit }, colors) {
  const changes = heatChanges(logprobs, tokens);
  const columns = heatColumns(changes);
  const x = columns.map((i) => steps[i]);
  const z = changes.map((row) => columns.map((i) => row[i]));
  const bound = limit || largestChange(z) || 1e-6;
  const places = tokens.map((_, k) => k);
  // With many tokens only some labels fit; the hover names each.
  const every = Math.max(1, Math.ceil(tokens.length / MOST_LABELS));
  const shown = places.filter((k) => k % every === 0);
  const small = { size: 11.5, color: colors.ink2 };
  return {
    data: [
      {
        type: "heatmap",
        x,
        y: places,
        z,
        zmin: -bound,
        zmax: bound,
        xgap: 0,
        ygap: tokens.length < 40 ? 1 : 0,
        customdata: tokens.map((token, k) => x.map(() => `${k + 1}: ${tokenLabel(token)}`)),
        colorscale: [
          [0, colors.dispreferred],
          [0.5, colors.surface],
          [1, colors.preferred],
        ],
        colorbar: {
          thickness: 10,
          outlinewidth: 0,
          tickfont: small,
          tickformat: ".2~g",
          title: { text: "nats", font: small },
        },
        hovertemplate: "token %{customdata}<br>step %{x}<br>%{z:+.4f} nats<extra></extra>",
        hoverongaps: false,
      },
    ],
    layout: layout(colors, {
      x: stepAxis(steps),
      y: {
        autorange: "reversed",
        tickvals: shown,
        ticktext: shown.map((k) => tokenLabel(tokens[k])),
        showgrid: false,
        tickfont: { ...small, family: "ui-monospace, Menlo, Consolas, monospace" },
      },
      hovermode: "closest",
      showlegend: false,
      margin: { l: 84, r: 8, t: 8, b: 38 },
    }),
  };
}
