// A token as an element in which spaces, newlines and control characters are visible.

import { h } from "./dom.js";
import { UNSEEN, visible } from "./format.js";

const PARTS = new RegExp(`(${UNSEEN.source})`);

/** @param {string} text */
export function tokenView(text) {
  const parts = text === "" ? [""] : text.split(PARTS).filter((part) => part !== "");
  return h(
    "span",
    { class: "token" },
    parts.map((part) => {
      const shown = visible(part);
      return shown === part ? part : h("span", { class: "blank" }, shown);
    }),
  );
}
