// The run form: reads its fields into a configuration, and shows errors at their fields.

import { api, pageData } from "../lib/api.js";
import { $, $$, problemNotice } from "../lib/dom.js";
import { checkBounds, FieldError, promptProbes, READ } from "./new_run/form-values.js";
import {
  arrangeSelection,
  fieldOfRule,
  partOf,
  READ_SELECTION,
  SelectionPreview,
  startSubset,
} from "./new_run/selection.js";

const { dataset_id, kind } = pageData();
const form = $("[data-run-form]");
const fields = new Map($$("[data-field]", form).map((box) => [box.dataset.field, box]));
const control = (box) => $("[data-type]", box);
const part = (row, name) => $(`[data-part="${name}"]`, row).value;

const isShown = (box) => !box.hidden;

/** The configuration of all fields whose names begin with `prefix`; null where one of them is invalid, which is shown
 *  at the field. */
function readConfig(prefix = "") {
  const config = {};
  let isRight = true;
  const attempt = (box, read) => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      showError(box, error.message, error.rest);
      isRight = false;
    }
  };
  for (const [name, box] of fields) {
    if (!isShown(box) || !name.startsWith(prefix)) continue;
    attempt(box, () => {
      const value = readField(box);
      if (name === "lora") {
        if (value) config.lora ??= {};
      } else if (value !== undefined) put(config, name, value);
    });
  }
  if (config.probes?.pairs) {
    delete config.probes.strategy;
    delete config.probes.count;
  }
  if (config.selection)
    attempt(fields.get("selection.random"), () => {
      config.selection = arrangeSelection(config.selection);
    });
  return isRight ? config : null;
}

/** A field's value; undefined where it is empty and so keeps its default. */
function readField(box) {
  const input = control(box);
  if (input.dataset.type === "prompts") {
    const rows = $$("[data-prompt-row]", input).map((row) => ({
      prompt: part(row, "prompt"),
      watch: part(row, "watch"),
      name: part(row, "name"),
    }));
    const found = promptProbes(rows);
    return found.length ? found : undefined;
  }
  if (READ_SELECTION[input.dataset.type]) return READ_SELECTION[input.dataset.type](input);
  const text = input.value.trim();
  if (text === "" && "optional" in box.dataset && input.dataset.type !== "checkbox") return undefined;
  const value = READ[input.dataset.type](text, input);
  checkBounds(value, input);
  return value;
}

/** Add and remove rows of prompts or of rules. @param {HTMLElement} fieldset */
function startRows(fieldset) {
  const rows = $("[data-rows]", fieldset);
  $("[data-add]", fieldset)?.addEventListener("click", () => {
    rows.append($("[data-row]", fieldset).content.cloneNode(true));
    $("textarea, select", rows.lastElementChild).focus();
  });
  rows.addEventListener("click", (event) => {
    if (!event.target.closest("[data-remove]")) return;
    event.target.closest("[data-prompt-row], [data-rule-row]").remove();
    $("[data-add]", fieldset).focus();
  });
}

function put(config, path, value) {
  const names = path.split(".");
  const last = names.pop();
  let at = config;
  for (const name of names) at = at[name] ??= {};
  at[last] = value;
}

/** Show an error at a field. rest: the part of the field, ["1", "fraction"] in a list of rules. */
function showError(box, message, rest = []) {
  const input = control(box) ?? $("input", box);
  const { type } = input.dataset;
  const marked =
    type === "prompts" ? $("textarea, [data-add]", input) : READ_SELECTION[type] ? partOf(input, rest) : input;
  marked.setAttribute("aria-invalid", "true");
  $(".error", box).textContent = message;
  const folded = box.closest("details");
  if (folded) folded.open = true;
}

function clearErrors(boxes = [form]) {
  for (const box of boxes) {
    for (const error of $$(".error", box)) error.textContent = "";
    for (const input of $$("[aria-invalid]", box)) input.removeAttribute("aria-invalid");
  }
}

/** Show an error of the API at its field ("config.probes.pairs.0" at "probes.pairs"); false where there is none. */
function showErrorAt({ field, message }) {
  if (field === "name") {
    showError($("[data-name]", form), message);
    return true;
  }
  const parts = fieldOfRule((field ?? "").replace(/^config\./, "")).split(".");
  for (let length = parts.length; length > 0; length -= 1) {
    const box = fields.get(parts.slice(0, length).join("."));
    if (box) {
      showError(box, message, parts.slice(length));
      return true;
    }
  }
  return false;
}

function showProblem(problem) {
  const elsewhere = problem.errors.filter((item) => !showErrorAt(item));
  if (elsewhere.length || !problem.errors.length) {
    problem.errors = elsewhere;
    $("[data-problem]", form).replaceChildren(problemNotice(problem));
  }
  focusFirstError();
}

function focusFirstError() {
  const first = $("[aria-invalid]", form) ?? $("[data-problem] .notice", form);
  first?.scrollIntoView({ block: "center" });
  first?.focus?.({ preventScroll: true });
}

/** Hide the fields that need another field to have a certain value, which it has not. */
function showRelevant() {
  for (const box of fields.values()) {
    if (!box.dataset.onlyWith) continue;
    const [name, wanted] = box.dataset.onlyWith.split("=");
    const input = control(fields.get(name));
    const value = input.type === "checkbox" ? (input.checked ? "on" : "off") : input.value;
    box.hidden = wanted === "*" ? value.trim() === "" : value !== wanted;
  }
}

form.addEventListener("change", showRelevant);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  $("[data-problem]", form).replaceChildren();
  clearErrors();
  const config = readConfig();
  if (config === null) return focusFirstError();
  const submit = $("[data-submit]", form);
  submit.disabled = true;
  try {
    const name = $("#run-name").value.trim();
    const body = { kind, dataset_id, config, ...(name ? { name } : {}) };
    const run = await api("/runs", { method: "POST", body });
    location.assign(`/runs/${run.id}`);
  } catch (problem) {
    showProblem(problem);
  } finally {
    submit.disabled = false;
  }
});
for (const fieldset of $$('[data-type="prompts"], [data-type="measures"]', form)) startRows(fieldset);
for (const fieldset of $$('[data-type="subset"]', form)) startSubset(fieldset);
showRelevant();

const preview = $("[data-selection-preview]");
if (preview) {
  const prefix = "selection.";
  const boxes = [...fields].filter(([name]) => name.startsWith(prefix)).map(([, box]) => box);
  new SelectionPreview({
    host: preview,
    form,
    dataset: dataset_id,
    read: () => {
      clearErrors(boxes);
      const config = readConfig(prefix);
      return config && (config.selection ?? {});
    },
    onproblem: ({ errors }) =>
      errors.length > 0 && errors.every((item) => showErrorAt({ ...item, field: prefix + item.field })),
  });
}
