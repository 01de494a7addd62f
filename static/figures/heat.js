// Token × step: change of each token's log-probability since the first step.

import { visible } from "../format.js";
import { gap, layout } from "./frame.js";

/** steps: S, tokens: N texts, logprobs: S lists of N. Rows that got the first step's value are 0. */
export function heatChanges(logprobs, tokens) {
  const first = logprobs[0] ?? [];
  return tokens.map((_, k) => logprobs.map((row) => gap(row[k]) === null || gap(first[k]) === null ? null : row[k] - first[k]));
}

/** The largest absolute change, so that two maps can share one scale. */
export function largestChange(changes) {
  let largest = 0;
  for (const row of changes) for (const value of row) if (value !== null) largest = Math.max(largest, Math.abs(value));
  return largest;
}

/** Room for a label a token, as far as that goes; in pixels. */
export function heatHeight(tokens) {
  return Math.max(200, Math.min(560, 60 + 18 * tokens));
}

export function heatFigure({ steps, tokens, logprobs, limit }, colors) {
  const z = heatChanges(logprobs, tokens);
  const bound = limit || largestChange(z) || 1e-6;
  const places = tokens.map((_, k) => k);
  // With many tokens only some labels fit; the hover names each.
  const every = Math.max(1, Math.ceil(tokens.length / 28));
  const shown = places.filter((k) => k % every === 0);
  const label = (text) => visible(text).slice(0, 16).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return {
    data: [{
      type: "heatmap", x: [...steps], y: places, z, zmin: -bound, zmax: bound, xgap: 0, ygap: tokens.length < 40 ? 1 : 0,
      customdata: tokens.map((token, k) => steps.map(() => `${k + 1}: ${label(token)}`)),
      colorscale: [[0, colors.dispreferred], [0.5, colors.surface], [1, colors.preferred]],
      colorbar: { thickness: 10, outlinewidth: 0, tickfont: { size: 11.5, color: colors.ink2 }, tickformat: "+.2~g", title: { text: "nats", font: { size: 11.5, color: colors.ink2 } } },
      hovertemplate: "token %{customdata}<br>step %{x}<br>%{z:+.4f} nats<extra></extra>", hoverongaps: false,
    }],
    layout: layout(colors, {
      x: { title: "step" },
      y: { autorange: "reversed", tickvals: shown, ticktext: shown.map((k) => label(tokens[k])), showgrid: false, tickfont: { size: 11.5, color: colors.ink2, family: "ui-monospace, Menlo, Consolas, monospace" } },
      hovermode: "closest", showlegend: false, margin: { l: 84, r: 8, t: 8, b: 38 },
    }),
  };
}
