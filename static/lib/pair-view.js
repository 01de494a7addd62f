// A pair as elements: the prompt or its turns, and the two responses side by side.

import { h } from "./dom.js";

/** @import { Prompt } from "./types.js" */

/** A text longer than this, in characters, scrolls in a box of its own. */
const LONG = 1200;

/** @param {Prompt} prompt */
export function promptView(prompt) {
  const turns = typeof prompt === "string" ? [{ role: "prompt", content: prompt }] : prompt;
  return h(
    "div",
    { class: "turns" },
    turns.map((turn) => h("div", { class: "turn" }, h("span", {}, turn.role), text(contentOf(turn)))),
  );
}

/**
 * A turn's content, and below it what else a chat template may write out, such as tool calls.
 * @param {{role: string, content: string}} turn
 */
function contentOf({ role, content, ...more }) {
  const fields = Object.entries(more).map(([name, value]) => {
    return `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`;
  });
  return [content, ...fields].filter(Boolean).join("\n");
}

/** @param {string} content */
export function text(content) {
  const isLong = content.length > LONG;
  return h("div", { class: isLong ? "text long" : "text", tabindex: isLong ? "0" : null }, content);
}

/** One response under its heading. @param {"preferred" | "dispreferred"} kind @param {Node} body */
export function side(kind, body) {
  const sign = kind === "preferred" ? "Preferred y+" : "Dispreferred y−";
  return h("div", { class: `side ${kind}` }, h("h3", {}, sign), body);
}

/**
 * @param {{pair: number, prompt: Prompt, preferred: string, dispreferred: string, meta?: {row?: number}}} pair
 * @param {(Node | null)[]} more elements for its head
 */
export function pairView(pair, ...more) {
  return h(
    "article",
    { class: "pair", id: `pair-${pair.pair}` },
    h(
      "div",
      { class: "pair-head" },
      h("strong", {}, `Pair ${pair.pair}`),
      pair.meta?.row ? h("span", {}, `row ${pair.meta.row}`) : null,
      ...more,
    ),
    promptView(pair.prompt),
    h(
      "div",
      { class: "sides" },
      side("preferred", text(pair.preferred)),
      side("dispreferred", text(pair.dispreferred)),
    ),
  );
}
