// What all figures share: axes, fonts, texts and colours. Figures are pure: numbers and a palette in,
// {data, layout} for Plotly out.

import { clip, visible } from "../lib/format.js";

/** The page's colours as the style sheet has them at this moment. */
export function palette(root = document.documentElement) {
  const style = getComputedStyle(root);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: get("ink"),
    ink2: get("ink-2"),
    line: get("line"),
    surface: get("surface"),
    sunken: get("sunken"),
    preferred: get("preferred"),
    dispreferred: get("dispreferred"),
    other: get("other"),
    series: ["series-3", "series-4", "series-5", "series-6"].map(get),
    // Runs never take the colours of preferred and dispreferred.
    runs: ["series-3", "series-4", "series-6", "series-5", "series-7", "series-8"].map(get),
    sans: get("sans"),
    dark: root.dataset.theme === "dark",
  };
}

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
  const title = (text) => ({ text, font: { size: 12, color: colors.ink2 }, standoff: 8 });
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

/** So few steps that Plotly would put marks between them. */
const FEW_STEPS = 5;

/** The horizontal axis of what was measured at optimiser steps. */
export const stepAxis = (steps) => ({
  title: "step",
  ...(steps.length && steps.at(-1) - steps[0] <= FEW_STEPS ? { dtick: 1 } : {}),
});

/** null where there is no finite number: Plotly leaves a gap there. */
export const gap = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** #rrggbb with an opacity. */
export function faded(color, opacity) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

/** Text as Plotly shows it: it would take "<" for markup. */
export const plainText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** A token's text for an axis, a label or a legend. */
export const tokenLabel = (token, length = 16) => plainText(clip(visible(token), length));
