// A token as a person can read it: blanks, line ends and control characters are visible.

import { h } from "./dom.js";
import { UNSEEN, visible } from "./format.js";

const PARTS = new RegExp(`(${UNSEEN.source})`);

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
