// Plans of studies as text boxes have them.

/** What a plan fixes of the dataset by its other fields: field → what is found again once it is changed.
 *  @type {Record<string, string[]>} */
const FIXED_BY = {
  max_cells: ["cells"],
  pairs: ["cells"],
  "selection.limit": ["pairs", "watched", "held_out"],
  train_prompts: ["train", "test"],
  test_prompts: ["train", "test"],
  watch: ["watched"],
  watch_others: ["held_out"],
  dataset_id: ["dataset_sha256", "cells", "pairs", "watched", "held_out", "fine_tune", "train", "test"],
};

/**
 * The rest of a plan file after a field of the form was changed.
 *
 * @param {Record<string, any>} plan
 * @param {string} field
 */
export function after(plan, field) {
  const gone = FIXED_BY[field] ?? [];
  return Object.fromEntries(Object.entries(plan).filter(([name]) => !gone.includes(name)));
}

/**
 * Numbers and ranges: "0, 2-4, 1e-7".
 *
 * @param {string} text
 * @returns {number[]}
 * @throws {Error} something else is written there
 */
export function numbers(text) {
  return text
    .split(/[\s,]+/)
    .filter(Boolean)
    .flatMap((part) => {
      const range = /^(\d+)[-–](\d+)$/.exec(part);
      if (range) {
        const [from, to] = [Number(range[1]), Number(range[2])];
        return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
      }
      const value = Number(part);
      if (!Number.isFinite(value)) throw new Error(`“${part}” is no number`);
      return [value];
    });
}

/** @param {unknown} value @returns {string} */
export const listed = (value) => (Array.isArray(value) ? value.join(", ") : value === null ? "" : String(value));

/** @param {Record<string, any> | undefined} object @param {string} name @returns {Record<string, any>} */
export const without = (object, name) =>
  Object.fromEntries(Object.entries(object ?? {}).filter(([other]) => other !== name));
