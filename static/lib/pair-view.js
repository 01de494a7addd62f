// A pair as people read it: the prompt or its turns, and the two responses side by side.

import { h } from "./dom.js";

const LONG = 1200;

export function promptView(prompt) {
  const turns = typeof prompt === "string" ? [{ role: "prompt", content: prompt }] : prompt;
  return h(
    "div",
    { class: "turns" },
    turns.map((turn) => h("div", { class: "turn" }, h("span", {}, turn.role), text(turn.content))),
  );
}

export function text(content) {
  const isLong = content.length > LONG;
  return h("div", { class: isLong ? "text long" : "text", tabindex: isLong ? "0" : null }, content);
}

export function side(kind, body) {
  const sign = kind === "preferred" ? "Preferred y+" : "Dispreferred y−";
  return h("div", { class: `side ${kind}` }, h("h3", {}, sign), body);
}

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
