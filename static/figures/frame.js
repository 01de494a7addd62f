// What all figures share: layout, axes, texts and colors. Figures are pure functions: numbers and a palette in,
// {data, layout} for Plotly out.

import { clip, visible } from "../lib/format.js";

/** @import { Colors, Layout, MaybeNumber } from "../lib/types.js" */

/**
 * A Plotly layout in the page's style.
 *
 * @param {Colors} colors
 * @param {Layout} options x and y: the axes, their `title` a text; everything else goes into the layout as it is
 * @returns {Layout}
 */
export function layout(colors, { x = {}, y = {}, ...rest } = {}) {
  const axis = {
    gridcolor: colors.line,
    zerolinecolor: colors.line,
    linecolor: colors.line,
    tickcolor: colors.line,
    tickfont: { size: 12, color: colors.ink2 },
    automargin: true,
    zeroline: false,
  };
  const title = (/** @type {string} */ text) => ({ text, font: { size: 12, color: colors.ink2 }, standoff: 8 });
  const { title: xTitle, ...xRest } = x;
  const { title: yTitle, ...yRest } = y;
  return {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: colors.sans, size: 12.5, color: colors.ink },
    margin: { l: 48, r: 12, t: 8, b: 38 },
    hovermode: "x unified",
    hoverlabel: {
      bgcolor: colors.surface,
      bordercolor: colors.line,
      font: { family: colors.sans, size: 12.5, color: colors.ink },
      align: "left",
    },
    legend: {
      orientation: "h",
      x: 0,
      y: 1.02,
      yanchor: "bottom",
      font: { size: 12.5, color: colors.ink },
      itemclick: "toggle",
      itemdoubleclick: "toggleothers",
    },
    showlegend: true,
    dragmode: "zoom",
    uirevision: "keep", // zoom and hidden lines outlive new points
    xaxis: { ...axis, showgrid: false, title: title(xTitle ?? ""), ...xRest },
    yaxis: { ...axis, title: title(yTitle ?? ""), ...yRest },
    ...rest,
  };
}

/** With a range of at most this many steps Plotly would put ticks between whole steps. */
const FEW_STEPS = 5;

/** The horizontal axis of what was measured at optimizer steps. @param {number[]} steps @returns {Layout} */
export const stepAxis = (steps) => ({
  title: "step",
  ...(steps.length && steps[steps.length - 1] - steps[0] <= FEW_STEPS ? { dtick: 1 } : {}),
});

/** null where there is no finite number: Plotly leaves a gap there. @param {unknown} value @returns {MaybeNumber} */
export const gap = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** @param {string} color #rrggbb @param {number} opacity @returns {string} the color with that opacity */
export function faded(color, opacity) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

/** Escape a text for Plotly, which interprets "<" as markup. @param {string} text */
export const plainText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** A token's text for an axis, a label or a legend. @param {string} token */
export const tokenLabel = (token, length = 16) => plainText(clip(visible(token), length));
