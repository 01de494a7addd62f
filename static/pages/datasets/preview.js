// The preview of a file before it is stored: what its columns were recognized as, and the form that corrects it.

import { $$, h } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import { promptView, side, text } from "../../lib/pair-view.js";

const ROLES = [
  ["prompt", "Prompt", "may be missing where the responses are whole dialogues"],
  ["preferred", "Preferred response", ""],
  ["dispreferred", "Dispreferred response", ""],
  ["system", "System prompt", "optional"],
  ["preference", "Which is preferred: 1 or 2", "optional; the two responses are then the first and the second"],
];

/**
 * @param {File} file
 * @param {any} seen the response of /datasets/preview
 * @param {{
 *   store: (mapping?: Record<string, string>) => void, previewAgain: (mapping: Record<string, string>) => void,
 *   cancel: () => void,
 * }} actions of the buttons
 */
export function previewView(file, seen, { store, previewAgain, cancel }) {
  const isUsable = seen.usable > 0;
  const title = isUsable ? `Read as ${seen.form}` : "Which column holds what?";
  return h(
    "section",
    { class: "card preview", "aria-label": `What ${file.name} holds` },
    h("div", { class: "card-head" }, h("h2", {}, `${file.name}: ${title}`), h("span", { class: "tag" }, kindOf(seen))),
    h("p", { class: "quiet" }, summary(seen)),
    seen.reasons.length
      ? h(
          "div",
          { class: "notice warn" },
          h("strong", {}, isUsable ? "Please check whether this is right" : "Nothing can be read this way"),
          h(
            "ul",
            {},
            seen.reasons.map((reason) => h("li", {}, reason)),
          ),
        )
      : null,
    seen.errors.length
      ? h(
          "details",
          {},
          h("summary", {}, `${count(seen.rejected)} of ${count(seen.rows)} rows cannot be used`),
          rejectedRows(seen.errors),
        )
      : null,
    seen.pairs.length
      ? h("details", { open: true }, h("summary", {}, "The first pairs"), seen.pairs.slice(0, 2).map(pairPreview))
      : null,
    h(
      "details",
      { open: seen.confidence !== "sure" || seen.needs_mapping },
      h("summary", {}, `Columns (${count(seen.columns.length)})`),
      columnsTable(seen.columns),
      mappingForm(seen, previewAgain),
    ),
    h(
      "div",
      { class: "actions preview-actions" },
      h(
        "button",
        {
          type: "button",
          class: "primary",
          disabled: !isUsable,
          onclick: () => store(seen.needs_mapping ? seen.mapping : undefined),
        },
        "Store this dataset",
      ),
      h("button", { type: "button", onclick: cancel }, "Not this file"),
    ),
  );
}

const KINDS = { jsonl: "JSONL", json: "JSON", csv: "CSV", parquet: "Parquet" };
const kindOf = (seen) => KINDS[seen.kind] + (seen.is_packed ? ", gzipped" : "");

function summary(seen) {
  const rows = seen.rows === 1 ? "1 row" : `${count(seen.rows)} rows`;
  const of = seen.is_whole ? `The file has ${rows}` : `Of the first ${rows}`;
  return `${of}${seen.is_whole ? ";" : ","} ${count(seen.usable)} can be used. Nothing is stored yet.`;
}

function pairPreview(pair) {
  return h(
    "article",
    { class: "pair" },
    h("div", { class: "pair-head" }, `row ${count(pair.row)}`),
    promptView(pair.prompt),
    h(
      "div",
      { class: "sides" },
      side("preferred", text(pair.preferred)),
      side("dispreferred", text(pair.dispreferred)),
    ),
  );
}

function columnsTable(columns) {
  return h(
    "div",
    { class: "table-wrap" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", {}, "Column"),
          h("th", {}, "Taken for"),
          h("th", { class: "narrow-hide" }, "Holds"),
          h("th", {}, "Begins with"),
        ),
      ),
      h(
        "tbody",
        {},
        columns.map((column) =>
          h(
            "tr",
            {},
            h("td", {}, h("code", {}, column.name)),
            h("td", {}, column.role ?? h("span", { class: "quiet" }, "kept beside the pair")),
            h("td", { class: "narrow-hide quiet" }, column.holds),
            h("td", {}, h("span", { class: "clip small", dir: "auto" }, column.example)),
          ),
        ),
      ),
    ),
  );
}

function mappingForm(seen, previewAgain) {
  const names = seen.columns.map((column) => column.name);
  const form = h(
    "form",
    { class: "form mapping" },
    h(
      "div",
      { class: "fields" },
      ROLES.map(([role, label, help]) => {
        const id = `mapping-${role}`;
        const given = seen.mapping?.[role];
        return h(
          "div",
          { class: "field" },
          h("label", { for: id }, label),
          h(
            "select",
            { id, name: role },
            h("option", { value: "" }, "none of them"),
            names.map((name) => h("option", { value: name, selected: name === given }, name)),
          ),
          help ? h("span", { class: "help" }, help) : null,
        );
      }),
    ),
    h("div", { class: "form-error", role: "alert" }),
    h("div", { class: "actions" }, h("button", { type: "submit" }, "Look again with these columns")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const mapping = Object.fromEntries(
      $$("select", form)
        .filter((select) => select.value)
        .map((select) => [select.name, select.value]),
    );
    const isComplete = mapping.preferred && mapping.dispreferred;
    form.querySelector(".form-error").textContent = isComplete ? "" : "Choose the columns of both responses.";
    if (isComplete) previewAgain(mapping);
  });
  return form;
}

export function rejectedRows(errors) {
  return h(
    "div",
    { class: "table-wrap" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { class: "num" }, "Row"),
          h("th", {}, "Column"),
          h("th", {}, "Reason"),
          h("th", { class: "narrow-hide" }, "How it begins"),
        ),
      ),
      h(
        "tbody",
        {},
        errors
          .slice(0, 100)
          .map((item) =>
            h(
              "tr",
              {},
              h("td", { class: "num" }, item.row ? count(item.row) : ""),
              h("td", {}, h("code", {}, item.field ?? "")),
              h("td", {}, item.message),
              h("td", { class: "narrow-hide" }, h("code", { class: "clip" }, item.snippet ?? "")),
            ),
          ),
      ),
    ),
  );
}
