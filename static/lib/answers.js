// The model's greedy answers to a probe's prompt, step by step.

import { diff } from "./diff.js";

/** @import { Answer } from "./types.js" */

/** @param {string} text */
const wordsOf = (text) => text.split(/(\s+)/).filter((part) => part !== "");

/**
 * Merge equal consecutive answers into spans of steps, and mark the words that the previous span lacks.
 *
 * @param {Answer[]} items ascending by step
 * @returns {{from: number, to: number, text: string, ended: boolean, words: {text: string, isNew: boolean}[]}[]}
 */
export function answerSpans(items) {
  /** @type {{from: number, to: number, text: string, ended: boolean}[]} */
  const spans = [];
  for (const { step, text, ended } of items) {
    const last = spans.at(-1);
    if (last && last.text === text && last.ended === ended) last.to = step;
    else spans.push({ from: step, to: step, text, ended });
  }
  return spans.map((span, i) => ({ ...span, words: markNew(span.text, spans[i - 1]?.text) }));
}

/**
 * @param {string} text
 * @param {string} [before] the previous answer; without one nothing is new
 */
function markNew(text, before) {
  const words = wordsOf(text);
  if (before === undefined) return words.map((word) => ({ text: word, isNew: false }));
  const shared = diff(wordsOf(before), words).b;
  return words.map((word, i) => ({ text: word, isNew: !shared[i] && word.trim() !== "" }));
}

/** The answers of one probe by step; a step that arrives again replaces the earlier one. */
export class Answers {
  /** @param {Answer[]} items */
  constructor(items = []) {
    this.byStep = new Map(items.map((item) => [item.step, item]));
  }

  /** @param {Answer} item */
  put(item) {
    this.byStep.set(item.step, item);
  }

  /** Forget the answers after a step. @param {number} step */
  cut(step) {
    for (const known of [...this.byStep.keys()]) if (known > step) this.byStep.delete(known);
  }

  get items() {
    return [...this.byStep.values()].sort((a, b) => a.step - b.step);
  }
}
