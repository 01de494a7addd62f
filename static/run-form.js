// The run form: reads its fields into a configuration, and puts errors at their fields.

import { api, pageData } from "./api.js";
import { $, $$, problemNotice } from "./dom.js";

const { dataset_id, kind } = pageData();
const form = $("[data-run-form]");
const fields = new Map($$("[data-field]", form).map((box) => [box.dataset.field, box]));
const control = (box) => $("[data-type]", box);

class FieldError extends Error {}

const READ = {
  text: (text) => text,
  checkbox: (_, input) => input.checked,
  integer: (text) => wholeNumber(text),
  number: (text) => anyNumber(text),
  ordinals: (text) => text.split(",").flatMap(range),
  words: (text) => {
    const words = text.split(",").map((word) => word.trim()).filter(Boolean);
    // "all-linear" is a name for a list, not a list.
    return words.length === 1 && words[0].startsWith("all-") ? words[0] : words;
  },
  groups: (text) => Object.fromEntries(text.split("\n").filter((line) => line.trim()).map(group)),
};

function anyNumber(text) {
  const value = Number(text);
  if (text === "" || !Number.isFinite(value)) throw new FieldError("This must be a number.");
  return value;
}

function wholeNumber(text) {
  const value = anyNumber(text);
  if (!Number.isInteger(value)) throw new FieldError("This must be a whole number.");
  return value;
}

/** The bounds that the schema gave the control. The server checks them again, and more. */
function checkBounds(value, input) {
  if (typeof value !== "number") return;
  const { min, max } = input;
  const { above } = input.dataset;
  if (min && value < Number(min)) throw new FieldError(`This must be at least ${min}.`);
  if (above !== undefined && value <= Number(above)) throw new FieldError(`This must be more than ${Number(above)}.`);
  if (max && value > Number(max)) throw new FieldError(`This must be at most ${max}.`);
}

/** "10-12" → [10, 11, 12] */
function range(part) {
  const match = /^\s*(\d+)\s*(?:[-–]\s*(\d+))?\s*$/.exec(part);
  if (!match) throw new FieldError("Write pairs as numbers: 0, 4, 10-20.");
  const from = Number(match[1]);
  const to = match[2] === undefined ? from : Number(match[2]);
  if (to < from || to - from > 100_000) throw new FieldError(`${part.trim()} is not a range of pairs.`);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

function group(line) {
  const [name, ...words] = line.split(/[:,]/).map((part) => part.trim());
  if (!line.includes(":") || !name || !words.some(Boolean)) {
    throw new FieldError("One group a line, as “name: word, word”.");
  }
  return [name, words.filter(Boolean)];
}

const isShown = (box) => !box.hidden;

function readConfig() {
  const config = {};
  let isRight = true;
  for (const [name, box] of fields) {
    if (!isShown(box)) continue;
    const input = control(box);
    const text = input.value.trim();
    if (text === "" && "optional" in box.dataset && input.dataset.type !== "checkbox") continue;
    try {
      const value = READ[input.dataset.type](text, input);
      checkBounds(value, input);
      if (name === "lora") { if (value) config.lora ??= {}; } else put(config, name, value);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      say(box, error.message);
      isRight = false;
    }
  }
  if (config.probes?.pairs) { delete config.probes.strategy; delete config.probes.count; }
  return isRight ? config : null;
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
  input.setAttribute("aria-invalid", "true");
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
    box.hidden = value !== wanted;
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
    const run = await api("/runs", { method: "POST", body: { kind, dataset_id, config, ...(name ? { name } : {}) } });
    location.assign(`/runs/${run.id}`);
  } catch (problem) {
    showProblem(problem);
  } finally {
    submit.disabled = false;
  }
});
showRelevant();
