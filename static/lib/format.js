// Formats numbers, durations, sizes and token texts for display.

/** @typedef {number | null | undefined} Value a number, or nothing to show */

const MINUS = "−";
const NOTHING = "–";

/** @param {Value} value @returns {value is number} */
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/**
 * So many significant digits, with a true minus sign; "–" where there is no finite number.
 *
 * @param {Value} value
 */
export function number(value, digits = 3) {
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    return value.toExponential(digits - 1).replaceAll("-", MINUS);
  }
  const whole = size >= 1 ? Math.floor(Math.log10(size)) + 1 : 1;
  const decimals = size >= 1 ? Math.max(0, digits - whole) : digits - 1 + leadingZeros(size);
  return fixed(value, Math.min(decimals, 6));
}

/** @param {number} value @param {number} decimals */
function fixed(value, decimals) {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString("en-US", digits).replace("-", MINUS);
}

/**
 * A formatter with one number of decimals for a whole column, so that the decimal points align.
 *
 * @param {Value[]} values the column
 * @param {number} digits significant digits of the largest value
 * @returns {(value: Value) => string}
 */
export function aligned(values, digits = 4) {
  const sizes = values
    .filter(isNumber)
    .map(Math.abs)
    .filter((size) => size > 0);
  const largest = sizes.length ? Math.max(...sizes) : 1;
  const decimals = Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(largest))));
  return (value) => (isNumber(value) ? fixed(value, decimals) : NOTHING);
}

/** @param {number} size */
const leadingZeros = (size) => (size === 0 ? 0 : Math.max(0, -Math.floor(Math.log10(size))));

/**
 * Like `number`, always with a sign, so that gain and loss are distinct without color.
 *
 * @param {Value} value
 */
export function signed(value, digits = 3) {
  if (!isNumber(value)) return NOTHING;
  return (value > 0 ? "+" : "") + number(value, digits);
}

/**
 * Fixed decimals, so that columns align; a value that would be rounded to zero is shown by its order of magnitude.
 *
 * @param {number} size not negative
 * @param {number} decimals
 */
function unlessTiny(size, decimals) {
  const isTiny = size !== 0 && size < 0.5 * 10 ** -decimals;
  return isTiny ? size.toExponential(0).replace("e-", `e${MINUS}`) : size.toFixed(decimals);
}

/** @param {Value} value */
export function probability(value, decimals = 4) {
  return isNumber(value) ? unlessTiny(value, decimals) : NOTHING;
}

/** @param {Value} value */
export function probabilityChange(value, decimals = 4) {
  if (!isNumber(value)) return NOTHING;
  return (value < 0 ? MINUS : "+") + unlessTiny(Math.abs(value), decimals);
}

/** With thousands separators. @param {Value} value */
export const count = (value) => (isNumber(value) ? value.toLocaleString("en-US") : NOTHING);

/** A share as "12 %". @param {Value} value */
export const percent = (value, decimals = 0) => (isNumber(value) ? `${(value * 100).toFixed(decimals)} %` : NOTHING);

/** "2 h 5 min"; empty where it is not known. @param {Value} seconds */
export function duration(seconds) {
  if (!isNumber(seconds)) return "";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

/**
 * How long ago: "just now", "5 min ago", "3 h ago", "2 d ago".
 *
 * @param {string} moment as the API tells it
 * @param {number} [now] milliseconds
 */
export function ago(moment, now = Date.now()) {
  const minutes = Math.floor((now - Date.parse(moment)) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ago` : `${Math.floor(hours / 24)} d ago`;
}

/** In decimal units: 1500 → "1.50 KB". @param {number} value */
export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  let size = value;
  while (size >= 1000 && power < units.length - 1) {
    size /= 1000;
    power += 1;
  }
  return `${power ? size.toPrecision(3) : size} ${units[power]}`;
}

/** @type {Record<string, string>} */
const SIGNS = { " ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡", "\ufffe": "�", "\uffff": "�" };

/** Characters that cannot be seen; control characters would also make an SVG's XML invalid. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
export const UNSEEN = /[\x00-\x20\x7f\ufffe\uffff]/g;

/** The Unicode "control picture" of a character. @param {string} character */
const signOf = (character) => SIGNS[character] ?? String.fromCharCode(0x2400 + character.charCodeAt(0));

/** A token's text with spaces, newlines and control characters made visible. @param {string} text */
export function visible(text) {
  return text === "" ? "∅" : text.replace(UNSEEN, signOf);
}

/** Cut to at most `length` characters, the last of them "…". @param {string} text @param {number} length */
export function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
