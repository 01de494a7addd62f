// The run form: reads its fields into a configuration, and puts errors at their fields.

import { api, pageData } from "./api.js";
import { $, $$, problemNotice } from "./dom.js";
import { checkBounds, FieldError, promptProbes, READ } from "./form-values.js";

const { dataset_id, kind } = pageData();
const form = $("[data-run-form]");
const fields = new Map($$("[data-field]", form).map((box) => [box.dataset.field, box]));
const control = (box) => $("[data-type]", box);
const part = (row, name) => $(`[data-part="${name}"]`, row).value;

const isShown = (box) => !box.hidden;

function readConfig() {
  const config = {};
  let isRight = true;
  for (const [name, box] of fields) {
    if (!isShown(box)) continue;
    try {
      const value = readField(box);
      if (name === "lora") { if (value) config.lora ??= {}; } else if (value !== undefined) put(config, name, value);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      say(box, error.message);
      isRight = false;
    }
  }
  if (config.probes?.pairs) { delete config.probes.strategy; delete config.probes.count; }
  return isRight ? config : null;
}

/** A field's value; undefined where it was left empty and so keeps its default. */
function readField(box) {
  const input = control(box);
  if (input.dataset.type === "prompts") {
    const rows = $$("[data-prompt-row]", input)
      .map((row) => ({ prompt: part(row, "prompt"), watch: part(row, "watch"), name: part(row, "name") }));
    const found = promptProbes(rows);
    return found.length ? found : undefined;
  }
  const text = input.value.trim();
  if (text === "" && "optional" in box.dataset && input.dataset.type !== "checkbox") return undefined;
  const value = READ[input.dataset.type](text, input);
  checkBounds(value, input);
  return value;
}

/** Rows of prompts are added and taken away. */
function startRows(fieldset) {
  const rows = $("[data-rows]", fieldset);
  $("[data-add]", fieldset).addEventListener("click", () => {
    rows.append($("[data-row]", fieldset).content.cloneNode(true));
    $("textarea", rows.lastElementChild).focus();
  });
  rows.addEventListener("click", (event) => {
    if (!event.target.closest("[data-remove]")) return;
    event.target.closest("[data-prompt-row]").remove();
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

function say(box, message) {
  const input = control(box) ?? $("input", box);
  const marked = input.dataset?.type === "prompts" ? $("textarea, [data-add]", input) : input;
  marked.setAttribute("aria-invalid", "true");
  $(".error", box).textContent = message;
  const folded = box.closest("details");
  if (folded) folded.open = true;
}

function clearErrors() {
  $("[data-problem]", form).replaceChildren();
  for (const error of $$(".error", form)) error.textContent = "";
  for (const input of $$("[aria-invalid]", form)) input.removeAttribute("aria-invalid");
}

/** "config.probes.pairs.0" belongs to the field "probes.pairs". */
function boxOf(field) {
  if (field === "name") return $("[data-name]", form);
  const parts = (field ?? "").replace(/^config\./, "").split(".");
  for (let length = parts.length; length > 0; length -= 1) {
    const box = fields.get(parts.slice(0, length).join("."));
    if (box) return box;
  }
  return null;
}

function showProblem(problem) {
  const elsewhere = problem.errors.filter((item) => {
    const box = boxOf(item.field);
    if (box) say(box, item.message);
    return !box;
  });
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

/** Show a field only where another has the value that it belongs to. */
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
for (const fieldset of $$('[data-type="prompts"]', form)) startRows(fieldset);
showRelevant();
