// Keyboard shortcuts of the review page. None is active while a text is edited or a modifier is held.

import { h } from "../../lib/dom.js";

const HELP = [
  ["k", "keep"],
  ["d", "drop"],
  ["f", "fix: edit the text"],
  ["u", "unsure"],
  ["n", "write a note"],
  ["→ or ↓", "next pair"],
  ["← or ↑", "previous pair"],
  ["Home, End", "first, last pair"],
  ["z", "undo what you did last"],
  ["h", "history of the pair"],
  ["l", "list of pairs"],
  ["?", "these keys"],
];

/** `actions`: name of the key → what to do; false where the key is left to the browser. */
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]"))
      return;
    const at = /** @type {Element} */ (event.target);
    if (at.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // The arrow keys scroll a focused text that is longer than its box.
    if (
      (key === "ArrowDown" || key === "ArrowUp") &&
      at.closest?.(".diff, .text.long") &&
      at.scrollHeight > at.clientHeight
    )
      return;
    const act = actions[key];
    if (!act) return;
    if (event.repeat && !key.startsWith("Arrow")) return event.preventDefault();
    if (act() !== false) event.preventDefault();
  });
}

export function showHelp() {
  const dialog = h(
    "dialog",
    { "aria-label": "Keys" },
    h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Keys"),
      h(
        "dl",
        { class: "keys" },
        HELP.map(([key, does]) => [
          h(
            "dt",
            {},
            key.split(/(, | or )/).map((part) => (/^(, | or )$/.test(part) ? part : h("kbd", {}, part))),
          ),
          h("dd", {}, does),
        ]),
      ),
      h("p", { class: "quiet small" }, "A verdict moves to the next pair at once; it is stored in the background."),
      h("div", { class: "actions" }, h("button", { class: "primary", autofocus: true }, "Close")),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
