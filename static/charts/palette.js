// The colors and fonts of the style sheet as values for figures.

/** @import { Colors } from "../lib/types.js" */

/**
 * The colors of the current theme.
 *
 * @returns {Colors}
 */
export function palette(root = document.documentElement) {
  const style = getComputedStyle(root);
  const get = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
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
    // Runs never take the colors of preferred and dispreferred.
    runs: ["series-3", "series-4", "series-6", "series-5", "series-7", "series-8"].map(get),
    sans: get("sans"),
    dark: root.dataset.theme === "dark",
  };
}
