// A run's colour beside its name, the same on every page.

import { runStyle } from "../figures/compare.js";
import { palette } from "../figures/frame.js";
import { h } from "../lib/dom.js";

export function runKey(id) {
  const box = h("span", { class: "key", dataset: { runKey: id }, "aria-hidden": "true" });
  paint(box);
  return box;
}

/** Give every mark on the page (data-run-key="id") its colour and dash. */
export function paintKeys(root = document) {
  for (const box of root.querySelectorAll("[data-run-key]")) paint(box);
}

function paint(box) {
  const { color, dash } = runStyle(Number(box.dataset.runKey), palette());
  box.style.setProperty("--key", color);
  box.dataset.dash = dash;
}

document.addEventListener("themechange", () => paintKeys());
