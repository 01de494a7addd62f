// The color key beside a run's name, the same on every page.

import { runStyle } from "../figures/compare.js";
import { $$, h } from "../lib/dom.js";
import { palette } from "./palette.js";

/** @param {number} id */
export function runKey(id) {
  const box = h("span", { class: "key", dataset: { runKey: id }, "aria-hidden": "true" });
  paint(box);
  return box;
}

/** Give every key of the page (data-run-key="id") its color and dash. @param {ParentNode} root */
export function paintKeys(root = document) {
  for (const box of $$("[data-run-key]", root)) paint(box);
}

/** @param {HTMLElement} box */
function paint(box) {
  const { color, dash } = runStyle(Number(box.dataset.runKey), palette());
  box.style.setProperty("--key", color);
  box.dataset.dash = dash;
}

document.addEventListener("themechange", () => paintKeys());
