// The card of the pair under review: its text or the editor, and beside it the verdict, measures and history.

import { api } from "../../lib/api.js";
import { h, problemNotice } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import * as view from "./pair.js";

/**
 * @param {{
 *   item: any, at: number, total: number, root: string, body: Node, canUndo: boolean, displacementRun: number | null,
 *   hasTrainRuns: boolean, isHistoryOpen: boolean, go: (at: number) => void, undo: () => void,
 *   decide: (verdict: string) => void, saveNote: (item: any) => void,
 * }} options at: the pair's place in the queue of `total`; root: the dataset's API path; body: text or editor
 */
export function pairCard(options) {
  const { item, body } = options;
  return h(
    "div",
    { class: "review-grid" },
    h(
      "section",
      { class: "card review-card", tabindex: "-1", "aria-label": `Pair ${item.pair}` },
      h(
        "div",
        { class: "review-head" },
        h("h2", {}, `Pair ${item.pair}`),
        h("span", { class: "quiet small" }, item.meta.row ? `row ${count(item.meta.row)}` : ""),
        view.tags(item),
        navigation(options),
      ),
      body,
    ),
    h(
      "aside",
      { class: "card review-side" },
      decision(options),
      h("section", {}, h("h3", {}, "Measures"), view.measures(item)),
      options.hasTrainRuns
        ? h("section", {}, h("h3", {}, "Measured displacement"), view.displacement(item, options.displacementRun))
        : null,
      historySection(options),
    ),
  );
}

function navigation({ at, total, go }) {
  const button = (label, sign, disabled, to) =>
    h("button", { type: "button", class: "icon", disabled, "aria-label": label, onclick: () => go(to) }, sign);
  return h(
    "span",
    { class: "review-place" },
    button("Previous pair", "←", at === 0, at - 1),
    h("span", {}, `${count(at + 1)} of ${count(total)}`),
    button("Next pair", "→", at + 1 >= total, at + 1),
  );
}

function decision({ item, canUndo, undo, decide, saveNote }) {
  const { review } = item;
  return h(
    "section",
    { class: "review-decide" },
    h(
      "div",
      { class: "review-state" },
      view.verdictChip(review.verdict, review.reviewer ? `by ${review.reviewer}` : ""),
      item.unsent ? h("span", { class: "quiet small", "data-unsent": "" }, "storing…") : null,
      h(
        "button",
        { type: "button", class: "icon", disabled: !canUndo, onclick: undo, "aria-keyshortcuts": "z" },
        "Undo ",
        h("kbd", {}, "z"),
      ),
    ),
    view.verdictButtons(review.verdict, decide),
    h("div", { class: "field" }, h("label", { for: "note" }, "Note ", h("kbd", {}, "n")), noteBox(item, saveNote)),
    view.opinions(item),
  );
}

function noteBox(item, saveNote) {
  const { review } = item;
  const placeholder = review.verdict ? "Why?" : "Stored with the verdict";
  const note = h(
    "textarea",
    { id: "note", rows: "2", maxlength: "4000", placeholder, "aria-keyshortcuts": "n" },
    item.draft ?? review.note ?? "",
  );
  note.addEventListener("input", () => {
    item.draft = note.value;
  });
  note.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
      event.preventDefault();
      note.blur();
    }
  });
  note.addEventListener("blur", () => saveNote(item));
  return note;
}

function historySection({ item, root, isHistoryOpen }) {
  const host = h("div", {});
  const box = h("details", { open: isHistoryOpen }, h("summary", {}, `History (${item.review.version})`), host);
  const load = async () => {
    try {
      host.replaceChildren(...view.history(await api(`${root}/pairs/${item.pair}/review/history`)));
    } catch (problem) {
      host.replaceChildren(problemNotice(problem));
    }
  };
  box.addEventListener("toggle", () => {
    if (box.open) load();
  });
  return h("section", { "data-history": "" }, box);
}
