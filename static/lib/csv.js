// CSV text that spreadsheets read, with the formula guard.

/** @import { Columns } from "./types.js" */

/**
 * @param {Columns} columns name → values; shorter columns end in empty cells
 * @returns {string} a header and one line a row; null, undefined, NaN and infinities are empty cells
 */
export function toCsv(columns) {
  const names = Object.keys(columns);
  const length = Math.max(0, ...names.map((name) => columns[name].length));
  const rows = Array.from({ length }, (_, i) => names.map((name) => cell(columns[name][i])).join(","));
  return `${[names.join(","), ...rows].join("\n")}\n`;
}

/** @param {unknown} value */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  // Formula guard: a spreadsheet would evaluate a text that begins so.
  const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
