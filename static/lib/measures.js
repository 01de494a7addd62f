// The measures of a score run as the server declares them, in the page's JSON element #measures.

import { pageData } from "./api.js";

/** @import { Measure } from "./types.js" */

/** @type {Map<string, Measure> | null} */
let byName = null;

/** All measures by name, in the server's order. @returns {Map<string, Measure>} */
export function measures() {
  byName ??= new Map(pageData("measures").map((/** @type {Measure} */ measure) => [measure.name, measure]));
  return byName;
}

/**
 * @param {string} name
 * @throws {Error} where the server declares no such measure
 */
export function measureOf(name) {
  const measure = measures().get(name);
  if (!measure) throw new Error(`There is no measure “${name}”.`);
  return measure;
}

/** Value and text of each option of a choice. @param {string[]} names @returns {[string, string][]} */
export const labeled = (names) => names.map((name) => [name, measureOf(name).label]);

/** Names and short labels with units, for narrow table columns. @returns {[string, string][]} */
export const columnLabels = () =>
  [...measures().values()].map(({ name, short_label, unit }) => [name, unit ? `${short_label}, ${unit}` : short_label]);
