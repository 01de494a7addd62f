// Numbers, times and tokens in words.

const MINUS = "−";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Significant digits, a true minus sign, "–" where there is no number. */
export function number(value, digits = 3) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    return value.toExponential(digits - 1).replaceAll("-", MINUS);
  }
  const whole = size >= 1 ? Math.floor(Math.log10(size)) + 1 : 1;
  const decimals = size >= 1 ? Math.max(0, digits - whole) : digits - 1 + leadingZeros(size);
  return fixed(value, Math.min(decimals, 6));
}

function fixed(value, decimals) {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString("en-US", digits).replace("-", MINUS);
}

/** Fixed decimals that suit a whole column, so that its points stand under each other. */
export function aligned(values, digits = 4) {
  const sizes = values
    .filter(isNumber)
    .map(Math.abs)
    .filter((size) => size > 0);
  const largest = sizes.length ? Math.max(...sizes) : 1;
  const decimals = Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(largest))));
  return (value) => (isNumber(value) ? fixed(value, decimals) : "–");
}

const leadingZeros = (size) => (size === 0 ? 0 : Math.max(0, -Math.floor(Math.log10(size))));

/** With its sign always, so that gain and loss are told apart without colour. */
export function signed(value, digits = 3) {
  if (!isNumber(value)) return "–";
  return (value > 0 ? "+" : "") + number(value, digits);
}

/** Fixed decimals, so that columns align; what would be rounded to nothing is told by its order. */
function unlessTiny(size, decimals) {
  const isTiny = size !== 0 && size < 0.5 * 10 ** -decimals;
  return isTiny ? size.toExponential(0).replace("e-", `e${MINUS}`) : size.toFixed(decimals);
}

export function probability(value, decimals = 4) {
  return isNumber(value) ? unlessTiny(value, decimals) : "–";
}
export function probabilityChange(value, decimals = 4) {
  if (!isNumber(value)) return "–";
  return (value < 0 ? MINUS : "+") + unlessTiny(Math.abs(value), decimals);
}

export const count = (value) => (isNumber(value) ? value.toLocaleString("en-US") : "–");
export const percent = (value, decimals = 0) => (isNumber(value) ? `${(value * 100).toFixed(decimals)} %` : "–");

export function duration(seconds) {
  if (!isNumber(seconds)) return "";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  while (value >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${power ? value.toPrecision(3) : value} ${units[power]}`;
}

const SIGNS = { " ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡", "\ufffe": "�", "\uffff": "�" };

/** What of a text cannot be seen; control characters would also make a picture's XML invalid. */
export const UNSEEN = /[\x00-\x20\x7f\ufffe\uffff]/g;
const signOf = (character) => SIGNS[character] ?? String.fromCharCode(0x2400 + character.charCodeAt(0));

/** A token's text with blanks, newlines and control characters made visible. */
export function visible(text) {
  return text === "" ? "∅" : text.replace(UNSEEN, signOf);
}

export function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
