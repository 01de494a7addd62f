// The run form: reads its fields into a configuration, and shows errors at their fields.

import { api, pageData } from "../lib/api.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { CapacityPreview, matters } from "./new_run/capacity.js";
import { checkBounds, FieldError, promptProbes, READ, templateOf } from "./new_run/form-values.js";
import { ObjectivePreview } from "./new_run/objective.js";
import {
  arrangeSelection,
  controlOf,
  fieldOfRule,
  partOf,
  READ_SELECTION,
  SelectionPreview,
  startSubset,
} from "./new_run/selection.js";

const { dataset_id, kind, objective_fields } = pageData();
/** Objects that a checkbox adds to the configuration. */
const SWITCHED = ["lora", "pair_weights"];
const form = $("[data-run-form]");
const fields = new Map($$("[data-field]", form).map((box) => [box.dataset.field, box]));
const control = (box) => $("[data-type]", box);
const part = (row, name) => $(`[data-part="${name}"]`, row).value;

const isShown = (box) => !box.hidden;

/** The configuration of all fields whose names are wanted; null where one of them is invalid, which is shown at the
 *  field. */
function readConfig(isWanted = (_name) => true, onError = showError) {
  const config = {};
  let isRight = true;
  const attempt = (box, read) => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      onError(box, error.message, error.rest);
      isRight = false;
    }
  };
  for (const [name, box] of fields) {
    if (!isShown(box) || !isWanted(name)) continue;
    attempt(box, () => {
      const value = readField(box);
      if (SWITCHED.includes(name)) {
        if (value) config[name] ??= {};
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
  // Blanks around a template are part of it.
  if (input.dataset.type === "template") return input.value.trim() ? input.value : undefined;
  const text = input.value.trim();
  if (text === "" && "optional" in box.dataset && input.dataset.type !== "checkbox") return undefined;
  const value = READ[input.dataset.type](text, input);
  checkBounds(value, input);
  return value;
}

/** Let a chosen file fill the text box of the field. @param {HTMLInputElement} chooser */
function startFile(chooser) {
  const box = chooser.closest("[data-field]");
  chooser.addEventListener("change", async () => {
    const file = chooser.files?.[0];
    if (!file) return;
    clearErrors([box]);
    try {
      control(box).value = templateOf(await file.text(), file.name);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      showError(box, error.message);
    }
    chooser.value = "";
  });
}

/** Add and remove rows of prompts or of rules. @param {HTMLElement} fieldset */
function startRows(fieldset) {
  const rows = $("[data-rows]", fieldset);
  $("[data-add]", fieldset)?.addEventListener("click", () => {
    rows.append($("[data-row]", fieldset).content.cloneNode(true));
    $("textarea, select", rows.lastElementChild).focus();
  });
  rows.addEventListener("click", (event) => {
    const share = event.target.closest("[data-share]")?.dataset.share;
    if (share) takeShare(event.target.closest("[data-rule-row]"), share);
    if (!event.target.closest("[data-remove]")) return;
    event.target.closest("[data-prompt-row], [data-rule-row]").remove();
    $("[data-add]", fieldset).focus();
  });
}

/** @param {HTMLElement} row of a rule by measure @param {string} share in percent */
function takeShare(row, share) {
  const input = $('[data-part="number"]', row);
  input.value = share;
  input.dispatchEvent(new Event("input", { bubbles: true }));
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
    if (wanted === "*/*") box.hidden = !value.includes("/");
    else box.hidden = wanted === "*" ? value.trim() === "" : !wanted.split("|").includes(value);
  }
}

/** A select whose last option stands for any other value becomes a text box when that is chosen. */
function startOther(select) {
  select.addEventListener("change", () => {
    if (!select.selectedOptions[0]?.hasAttribute("data-other")) return;
    const box = h("input", {
      id: select.id,
      "data-type": "text",
      placeholder: "org/name",
      spellcheck: "false",
      autocapitalize: "off",
      "aria-describedby": select.getAttribute("aria-describedby"),
    });
    select.replaceWith(box);
    box.focus();
  });
}

form.addEventListener("change", showRelevant);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  $("[data-problem]", form).replaceChildren();
  clearErrors();
  const config = readConfig();
  const control = config && event.submitter && "withControl" in event.submitter.dataset ? controlConfig(config) : null;
  if (config === null || $("[aria-invalid]", form)) return focusFirstError();
  allowSubmit(false);
  try {
    const input = $("#run-name");
    const run = await start(config, input.value.trim());
    if (control) await start(control, `${input.value.trim() || input.placeholder}: random control`.slice(-200));
    location.assign(`/runs/${run.id}`);
  } catch (problem) {
    showProblem(problem);
  } finally {
    allowSubmit(true);
  }
});

/** The buttons are disabled until this script is there: before, the browser would submit the form by itself. */
function allowSubmit(isAllowed) {
  for (const button of $$("[data-submit], [data-with-control]", form)) button.disabled = !isAllowed;
}

/** Queue a run; an empty name is left to the server. */
const start = (config, name) =>
  api("/runs", { method: "POST", body: { kind, dataset_id, config, ...(name ? { name } : {}) } });

/** The same run on as many pairs, drawn at random; null where its selection has no such control, which is shown. */
function controlConfig(config) {
  try {
    return { ...config, selection: controlOf(config.selection) };
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    showError(fields.get("selection.random"), error.message);
    return null;
  }
}
for (const fieldset of $$('[data-type="prompts"], [data-type="measures"]', form)) startRows(fieldset);
for (const chooser of $$("[data-fills]", form)) startFile(chooser);
for (const fieldset of $$('[data-type="subset"]', form)) startSubset(fieldset);
for (const other of $$("[data-other]", form)) startOther(other.closest("select"));
showRelevant();
allowSubmit(true);

const incentives = $("[data-incentives]");
if (incentives) {
  const boxes = objective_fields.map((name) => fields.get(name)).filter(Boolean);
  new ObjectivePreview({
    incentives,
    offsets: $("[data-offsets]"),
    form,
    dataset: dataset_id,
    names: objective_fields,
    read: () => {
      clearErrors(boxes);
      return readConfig((name) => objective_fields.includes(name));
    },
  });
}

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
      const config = readConfig((name) => name.startsWith(prefix));
      return config && (config.selection ?? {});
    },
    onproblem: ({ errors }) =>
      errors.length > 0 && errors.every((item) => showErrorAt({ ...item, field: prefix + item.field })),
  });
}

const capacity = $("[data-capacity]");
if (capacity) {
  new CapacityPreview({
    host: capacity,
    form,
    dataset: dataset_id,
    kind,
    read: () => readConfig(matters, () => {}), // what is wrong is shown where it is asked for
  });
}
