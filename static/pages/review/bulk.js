// The dialog that gives all pairs of the filter one verdict, confirmed by typing their number.

import { api } from "../../lib/api.js";
import { $, h } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import { VERDICTS } from "./pair.js";

/** Resolves to the batch that was stored, or null. */
export function askForBulk({ root, filter, total, words, reviewer }) {
  return new Promise((resolve) => {
    let expected = total;
    let stored = null;
    const says = h("p", {});
    const error = h("p", { class: "form-error", role: "alert" });
    const confirm = h("input", {
      type: "text",
      inputmode: "numeric",
      id: "bulk-count",
      autocomplete: "off",
      "aria-describedby": "bulk-says",
    });
    const submit = h("button", { class: "primary", value: "yes", disabled: true }, "Give the verdict");
    const explain = () => {
      says.replaceChildren(
        "All ",
        h("strong", {}, `${count(expected)} pair${expected === 1 ? "" : "s"}`),
        ` (${words}) get one verdict; those that have one already get this one in its place. It can be undone as one.`,
      );
      $("label", field).textContent = `Type ${expected} to confirm`;
    };
    const field = h("div", { class: "field" }, h("label", { for: "bulk-count" }), confirm);
    const dialog = h(
      "dialog",
      { "aria-label": "All at once" },
      h(
        "form",
        { method: "dialog" },
        h("h2", {}, "All at once"),
        h("div", { id: "bulk-says" }, says),
        h(
          "fieldset",
          {},
          h("legend", { class: "visually-hidden" }, "Verdict"),
          h(
            "div",
            { class: "actions" },
            Object.keys(VERDICTS).map((name) =>
              h(
                "label",
                { class: "check" },
                h("input", { type: "radio", name: "verdict", value: name, checked: name === "drop" }),
                ` ${name}`,
              ),
            ),
          ),
        ),
        h(
          "div",
          { class: "field" },
          h("label", { for: "bulk-note" }, "Note"),
          h("input", { id: "bulk-note", maxlength: "4000", placeholder: "may be left empty" }),
        ),
        field,
        error,
        h(
          "div",
          { class: "actions" },
          submit,
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        ),
      ),
    );
    explain();
    confirm.addEventListener("input", () => {
      submit.disabled = confirm.value.replace(/[,\s]/g, "") !== String(expected) || expected === 0;
    });
    $("form", dialog).addEventListener("submit", async (event) => {
      event.preventDefault();
      if (submit.disabled) return;
      submit.disabled = true;
      error.textContent = "";
      const note = $("#bulk-note", dialog).value.trim();
      try {
        stored = await api(`${root}/reviews/bulk`, {
          method: "POST",
          body: {
            filter,
            verdict: $("input[name=verdict]:checked", dialog).value,
            expected_count: expected,
            reviewer: reviewer || null,
            ...(note ? { note } : {}),
          },
        });
        dialog.close();
      } catch (problem) {
        error.textContent = problem.message;
        if (problem.more?.count !== undefined) {
          expected = problem.more.count;
          confirm.value = "";
          explain();
        } else submit.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(stored);
    });
    document.body.append(dialog);
    dialog.showModal();
    confirm.focus();
  });
}
