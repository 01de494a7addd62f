// The model's own greedy answers to a prompt, step by step.

import { diff } from "./diff.js";

const wordsOf = (text) => text.split(/(\s+)/).filter((part) => part !== "");

/** Equal answers in a row as one span, and what is new in each against the one before.
 *
 *  items: [{step, text, ended}] in the order of their steps. Returns [{from, to, text, ended,
 *  words: [{text, isNew}]}]. */
export function answerSpans(items) {
  const spans = [];
  for (const { step, text, ended } of items) {
    const last = spans.at(-1);
    if (last && last.text === text && last.ended === ended) last.to = step;
    else spans.push({ from: step, to: step, text, ended });
  }
  return spans.map((span, i) => ({ ...span, words: markNew(span.text, spans[i - 1]?.text) }));
}

function markNew(text, before) {
  const words = wordsOf(text);
  if (before === undefined) return words.map((word) => ({ text: word, isNew: false }));
  const shared = diff(wordsOf(before), words).b;
  return words.map((word, i) => ({ text: word, isNew: !shared[i] && word.trim() !== "" }));
}

/** Answers of one probe; each step once, whatever comes twice. */
export class Answers {
  constructor(items = []) {
    this.byStep = new Map(items.map((item) => [item.step, item]));
  }

  put(item) {
    this.byStep.set(item.step, item);
  }

  get items() {
    return [...this.byStep.values()].sort((a, b) => a.step - b.step);
  }
}
