// The editor of a pair's text. Saving makes a new version; the old one is kept.

import { api } from "../../lib/api.js";
import { $, h, problemNotice } from "../../lib/dom.js";

/** The editor as an element; onsaved(item), oncancel() and onmark() are called when it is closed. */
export function editor({ root, item, reviewer, onsaved, oncancel, onmark }) {
  const isChat = typeof item.prompt !== "string";
  const turns = isChat ? item.prompt : [{ role: "prompt", content: item.prompt }];
  const box = (id, label, text, rows) =>
    h(
      "div",
      { class: "field" },
      h("label", { for: id }, label),
      h("textarea", { id, rows, spellcheck: "true" }, text),
      h("div", { class: "error", id: `${id}-error` }),
    );
  const problems = h("div", {});
  let version = item.text_version;
  const form = h(
    "form",
    { class: "edit-form", "aria-label": `Edit pair ${item.pair}` },
    problems,
    turns.map((turn, i) => box(`edit-turn-${i}`, isChat ? `Prompt: ${turn.role}` : "Prompt", turn.content, 2)),
    h(
      "div",
      { class: "sides" },
      box("edit-preferred", "Preferred y+", item.preferred, 6),
      box("edit-dispreferred", "Dispreferred y−", item.dispreferred, 6),
    ),
    h(
      "div",
      { class: "actions" },
      h("button", { class: "primary" }, "Save as a new version ", h("kbd", {}, "Ctrl ↵")),
      h("button", { type: "button", onclick: oncancel }, "Cancel ", h("kbd", {}, "Esc")),
      h("button", { type: "button", onclick: onmark }, "Only mark “fix”"),
    ),
  );

  const textOf = (id) => $(`#${id}`, form).value;

  function changes() {
    const contents = turns.map((_, i) => textOf(`edit-turn-${i}`));
    const wanted = { version, reviewer: reviewer || null };
    if (contents.some((content, i) => content !== turns[i].content)) {
      wanted.prompt = isChat ? turns.map((turn, i) => ({ ...turn, content: contents[i] })) : contents[0];
    }
    for (const side of ["preferred", "dispreferred"]) {
      if (textOf(`edit-${side}`) !== item[side]) wanted[side] = textOf(`edit-${side}`);
    }
    return wanted;
  }

  async function save() {
    const submit = $(".primary", form);
    submit.disabled = true;
    problems.replaceChildren();
    for (const error of form.querySelectorAll(".error")) error.textContent = "";
    try {
      onsaved(await api(`${root}/pairs/${item.pair}`, { method: "PATCH", body: changes() }));
    } catch (problem) {
      show(problem);
    }
    submit.disabled = false;
  }

  function show(problem) {
    const theirs = problem.more?.current;
    if (problem.status === 409 && theirs) {
      // The reviewer has now seen their text: saving again replaces it, and it stays as a version.
      version = theirs.text_version;
      problems.replaceChildren(
        h(
          "div",
          { class: "notice warn", role: "alert" },
          h("strong", {}, "Someone edited this pair while you did."),
          h("div", { class: "text" }, h("span", { class: "preferred-ink" }, "y+ "), theirs.preferred),
          h("div", { class: "text" }, h("span", { class: "dispreferred-ink" }, "y− "), theirs.dispreferred),
          h("p", { class: "quiet small" }, "Saving again replaces it by your text; theirs is kept as a version."),
        ),
      );
      return;
    }
    const elsewhere = (problem.errors ?? []).filter(({ field, message }) => {
      const place = $(field === "prompt" ? "#edit-turn-0-error" : `#edit-${field}-error`, form);
      if (place) place.textContent = message;
      return !place;
    });
    if (elsewhere.length || !problem.errors?.length) problems.replaceChildren(problemNotice(problem));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      oncancel();
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save();
    }
  });
  return form;
}
