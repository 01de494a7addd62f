// Parses what was typed into a run's form into values of its configuration.

export class FieldError extends Error {
  /**
   * The part of the field that is wrong, for example [1, "fraction"] in a list of rules.
   *
   * @type {(string | number)[] | undefined}
   */
  rest;
}

/** Parsers by the control's data-type. @type {Record<string, (text: string, input?: any) => any>} */

export const READ = {
  text: (text) => text,
  checkbox: (_, input) => input.checked,
  integer: (text) => wholeNumber(text),
  number: (text) => anyNumber(text),
  ordinals: (text) => text.split(",").flatMap(range),
  words: (text) => {
    const words = splitWords(text);
    // "all-linear" names a set of modules; it is not a list of one module.
    return words.length === 1 && words[0].startsWith("all-") ? words[0] : words;
  },
  groups: (text) =>
    Object.fromEntries(
      text
        .split("\n")
        .filter((line) => line.trim())
        .map(group),
    ),
  opposites: (text) =>
    text
      .split("\n")
      .filter((line) => line.trim())
      .map(opposites),
  positions: (text) => JSON.parse(text),
  arguments: (text) =>
    Object.fromEntries(
      text
        .split("\n")
        .filter((line) => line.trim())
        .map(argument),
    ),
};

/** "enable_thinking: false" → ["enable_thinking", false]. What is no JSON is text. @param {string} line */
function argument(line) {
  const [, name, text] = /^\s*([^:\s]+)\s*[:=]\s*(.+?)\s*$/.exec(line) ?? [];
  if (name === undefined) throw new FieldError("One argument a line, as “name: value”.");
  try {
    return [name, JSON.parse(text)];
  } catch {
    return [name, WRITTEN[text] ?? text];
  }
}

/** Python's words for JSON's. @type {Record<string, boolean>} */
const WRITTEN = { True: true, False: false };

/**
 * The chat template in a file: the text itself, or the entry `chat_template` of a tokenizer_config.json.
 *
 * @param {string} text
 * @param {string} name
 */
export function templateOf(text, name) {
  if (!name.endsWith(".json")) return text;
  let found;
  try {
    found = JSON.parse(text).chat_template;
  } catch {
    throw new FieldError(`${name} is not valid JSON.`);
  }
  if (typeof found !== "string") throw new FieldError(`${name} has no text named chat_template.`);
  return found;
}

const splitWords = (text) =>
  text
    .split(",")
    .map((word) => word.trim())
    .filter(Boolean);

function anyNumber(text) {
  const value = Number(text);
  if (text === "" || !Number.isFinite(value)) throw new FieldError("This must be a number.");
  return value;
}

export function wholeNumber(text) {
  const value = anyNumber(text);
  if (!Number.isInteger(value)) throw new FieldError("This must be a whole number.");
  return value;
}

/** Check the bounds that the control has from the schema. The server checks them again. */
export function checkBounds(value, { min, max, dataset: { above } }) {
  if (typeof value !== "number") return;
  if (min && value < Number(min)) throw new FieldError(`This must be at least ${min}.`);
  if (above !== undefined && value <= Number(above)) throw new FieldError(`This must be more than ${Number(above)}.`);
  if (max && value > Number(max)) throw new FieldError(`This must be at most ${max}.`);
}

/** "10-12" → [10, 11, 12] */
function range(part) {
  const match = /^\s*(\d+)\s*(?:[-–]\s*(\d+))?\s*$/.exec(part);
  if (!match) throw new FieldError("Write pairs as numbers: 0, 4, 10-20.");
  const from = Number(match[1]);
  const to = match[2] === undefined ? from : Number(match[2]);
  if (to < from || to - from > 100_000) throw new FieldError(`${part.trim()} is not a range of pairs.`);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function group(line) {
  const [name, ...words] = line.split(/[:,]/).map((part) => part.trim());
  if (!line.includes(":") || !name || !words.some(Boolean)) {
    throw new FieldError("One group a line, as “name: word, word”.");
  }
  return [name, words.filter(Boolean)];
}

function opposites(line) {
  const names = splitWords(line);
  if (names.length !== 2) throw new FieldError("Two groups a line, as “affirmative, negative”.");
  return names;
}

/** rows: [{prompt, watch, name}] as they were typed; empty ones are left out. */
export function promptProbes(rows) {
  return rows
    .filter((row) => row.prompt.trim() || row.watch.trim() || row.name.trim())
    .map((row) => {
      if (!row.prompt.trim()) throw new FieldError("A prompt is missing.");
      const name = row.name.trim();
      return { prompt: promptOf(row.prompt), watch: splitWords(row.watch), ...(name ? { name } : {}) };
    });
}

/** A text, or chat messages as JSON: [{"role": "user", "content": "…"}]. @param {string} text */
function promptOf(text) {
  if (!/^\s*\[\s*\{/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    throw new FieldError("This looks like chat messages, but it is not valid JSON.");
  }
}
