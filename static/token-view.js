// A token as a person can read it: blanks and line ends are visible.

import { h } from "./dom.js";

const SIGNS = { " ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥" };

export function tokenView(text) {
  const box = h("span", { class: "token" });
  if (text === "") return h("span", { class: "token" }, h("span", { class: "blank" }, "∅"));
  for (const part of text.split(/([ \n\r\t])/)) {
    if (part === "") continue;
    box.append(SIGNS[part] ? h("span", { class: "blank" }, SIGNS[part]) : part);
  }
  return box;
}
