// The form that says which column holds what, for rows of two responses, of a list of them, or of one.

import { $, $$, h } from "../../lib/dom.js";

/** A field of the form: [role, label, help, what fills it: a column, a field of the list's items, or text] */
const COMMON = [
  ["prompt", "Prompt", "may be missing where the responses are whole dialogues", "column"],
  ["system", "System prompt", "optional", "column"],
  ["history", "Earlier turns", "optional; before the prompt", "column"],
  ["context", "Input", "optional; a text after the prompt", "column"],
];
const SHAPES = [
  {
    name: "two",
    label: "two responses",
    needs: ["preferred", "dispreferred"],
    error: "Choose the columns of both responses.",
    fields: [
      ["preferred", "Preferred response", "the first one, where another column says which is preferred", "column"],
      ["dispreferred", "Dispreferred response", "the second one, likewise", "column"],
      ["preference", "Which is preferred", "optional; names the response, or is 1 or 2", "column"],
      ["first", "…says for the first", "optional; where it is neither a name nor 1", "text"],
      ["second", "…says for the second", "optional; where it is neither a name nor 2", "text"],
      ["signed_preference", "Signed preference", "optional; negative where the first is preferred", "column"],
      ["preferred_score", "Score of the first", "optional; the higher score is preferred", "column"],
      ["dispreferred_score", "Score of the second", "optional", "column"],
    ],
  },
  {
    name: "list",
    label: "a list of responses",
    needs: ["candidates"],
    error: "Choose the column with the responses.",
    fields: [
      ["candidates", "Responses", "the best comes first, where nothing below says which", "column"],
      ["response", "…text of each", "optional; a field of the list’s items", "field"],
      ["ratings", "Ratings", "optional; higher is better", "field"],
      ["ranks", "Ranks", "optional; lower is better", "field"],
      ["best", "Position of the best", "optional; from 0", "column"],
      ["models", "Models", "optional", "field"],
    ],
  },
  {
    name: "single",
    label: "one response (KTO)",
    needs: ["completion"],
    error: "Choose the column of the response, and the one with its label or its rating.",
    fields: [
      ["completion", "Response", "paired with another one to the same prompt", "column"],
      ["label", "Label", "true where the response is desirable", "column"],
      ["rating", "Rating", "in place of a label; higher is better", "column"],
    ],
  },
];

/**
 * @param {any} seen the response of /datasets/preview
 * @param {(mapping: Record<string, string>) => void} previewAgain
 */
export function mappingForm(seen, previewAgain) {
  const names = seen.columns.map((column) => column.name);
  const fields = [...new Set([...seen.columns.flatMap((column) => column.fields), ...names])];
  const shapeOf = (mapping) => (mapping?.candidates ? "list" : mapping?.completion ? "single" : "two");
  const shown = h("div", { class: "fields" });
  const shape = h(
    "select",
    { id: "mapping-shape" },
    SHAPES.map(({ name, label }) => h("option", { value: name, selected: name === shapeOf(seen.mapping) }, label)),
  );
  const chosen = () => SHAPES.find(({ name }) => name === shape.value) ?? SHAPES[0];
  const show = () =>
    shown.replaceChildren(
      ...[COMMON[0], ...chosen().fields, ...COMMON.slice(1)].map(([role, label, help, filled]) =>
        control(
          role,
          label,
          help,
          filled === "text" ? null : filled === "field" ? fields : names,
          seen.mapping?.[role],
        ),
      ),
    );
  const form = h(
    "form",
    { class: "form mapping" },
    h(
      "div",
      { class: "fields" },
      h("div", { class: "field" }, h("label", { for: "mapping-shape" }, "Each row holds"), shape),
    ),
    shown,
    h("div", { class: "form-error", role: "alert" }),
    h("div", { class: "actions" }, h("button", { type: "submit" }, "Look again with these columns")),
  );
  shape.addEventListener("change", show);
  show();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const mapping = Object.fromEntries(
      $$("[name]", shown)
        .filter((input) => input.value)
        .map((input) => [input.name, input.value]),
    );
    const { needs, error, name } = chosen();
    const isComplete = needs.every((role) => mapping[role]) && (name !== "single" || mapping.label || mapping.rating);
    $(".form-error", form).textContent = isComplete ? "" : error;
    if (isComplete) previewAgain(mapping);
  });
  return form;
}

/** options: what can be chosen; null: any text. */
function control(role, label, help, options, given) {
  const id = `mapping-${role}`;
  // What was read already may be a path into an object, which no column is called.
  const names = options && given && !options.includes(given) ? [...options, given] : options;
  const input = names
    ? h(
        "select",
        { id, name: role },
        h("option", { value: "" }, "none of them"),
        names.map((name) => h("option", { value: name, selected: name === given }, name)),
      )
    : h("input", { id, name: role, type: "text", value: given ?? "", autocomplete: "off" });
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    input,
    help ? h("span", { class: "help" }, help) : null,
  );
}
