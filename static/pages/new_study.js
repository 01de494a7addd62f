// The form of a new study: reads its fields into a plan, previews what it comes to, and starts it.

import { api, pageData } from "../lib/api.js";
import { throttle } from "../lib/controls.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";
import { after, listed, numbers, without } from "./new_study/plan.js";

const PREVIEW_MS = 400;
const form = $("[data-study-form]");
/** What a plan file holds besides what the form shows. @type {Record<string, any>} */
let loaded = {};
let asked = 0;

const kind = () => $("[data-kind]", form).value;
const section = () => $(`[data-form="${kind()}"]`, form);

/** A field's value; undefined where it is left empty. @param {HTMLElement} box */
function read(box) {
  const input = $("input, select, textarea", box);
  switch (box.dataset.type) {
    case "choices":
      return $$("input:checked", box).map((one) => one.value);
    case "switch":
      return input.checked ? (loaded.fine_tune ?? {}) : null;
    case "select":
      return input.value;
    case "text":
      return input.value.trim() || undefined;
    case "integers":
    case "numbers":
    case "ordinals":
      return input.value.trim() ? numbers(input.value) : undefined;
    default:
      return input.value.trim() ? numbers(input.value)[0] : undefined;
  }
}

/** @returns {Record<string, any>} @throws {Error} with `field`: what is written there is no number or no JSON */
function readPlan() {
  const own = {
    kind: kind(),
    dataset_id: Number($("[data-dataset]", form).value),
    model: $("[data-model]", form).value,
  };
  /** @type {Record<string, any>} */
  const plan = { ...(loaded.kind === own.kind ? loaded : {}), ...own };
  const name = $("[data-name]", form).value.trim();
  if (name) plan.name = name;
  else delete plan.name;
  plan.config = at("config", () => JSON.parse($("[data-config]", form).value.trim() || "{}"));
  for (const box of $$("[data-field]", section())) {
    const [first, rest] = box.dataset.field.split(".");
    const value = at(box.dataset.field, () => read(box));
    if (value === undefined && rest) plan[first] = without(plan[first], rest);
    else if (value === undefined) delete plan[first];
    else if (rest) plan[first] = { ...plan[first], [rest]: value };
    else plan[first] = value;
  }
  return plan;
}

function at(field, reading) {
  try {
    return reading();
  } catch (error) {
    throw Object.assign(new Error(error.message), { field, errors: [{ field, message: error.message }] });
  }
}

/** Fill the form with a plan, the rest of which is kept. @param {Record<string, any>} plan */
function fill(plan) {
  loaded = plan;
  if (plan.kind) $("[data-kind]", form).value = plan.kind;
  showKind();
  if (plan.model) $("[data-model]", form).value = plan.model;
  if (plan.name) $("[data-name]", form).value = plan.name;
  const datasets = $$("[data-dataset] option", form);
  const same = datasets.find((one) => one.dataset.sha === plan.dataset_sha256);
  if (same) same.selected = true;
  const shown = $$("[data-field]", section()).map((box) => box.dataset.field);
  const config = Object.entries(plan.config ?? {}).filter(([name]) => !shown.includes(`config.${name}`));
  $("[data-config]", form).value = config.length ? JSON.stringify(Object.fromEntries(config), null, 2) : "";
  for (const box of $$("[data-field]", section())) {
    const value = box.dataset.field.split(".").reduce((from, name) => from?.[name], plan);
    if (value !== undefined) write(box, value);
  }
}

function write(box, value) {
  const input = $("input, select, textarea", box);
  if (box.dataset.type === "choices") for (const one of $$("input", box)) one.checked = value.includes(one.value);
  else if (box.dataset.type === "switch") input.checked = value !== null;
  else input.value = listed(value);
}

function showKind() {
  for (const part of $$("[data-form]", form)) part.hidden = part !== section();
}

function clearErrors() {
  for (const error of $$(".error", form)) error.textContent = "";
  $("[data-problem]", form).replaceChildren();
}

function showProblem(problem) {
  const elsewhere = (problem.errors ?? []).filter((item) => {
    const path = (item.field ?? "").replace(/^(single_pair|similarity|unalignment|remedy_bench)\./, "").split(".");
    for (let length = path.length; length > 0; length -= 1) {
      const name = path.slice(0, length).join(".");
      const box = $(`[data-field="${CSS.escape(name)}"]`, section()) ?? $(`[data-field="${CSS.escape(name)}"]`, form);
      if (!box?.checkVisibility()) continue;
      $(".error", box).textContent = item.message;
      return true;
    }
    return false;
  });
  if (elsewhere.length || !problem.errors?.length) {
    $("[data-problem]", form).replaceChildren(
      problemNotice({ ...problem, message: problem.message, errors: elsewhere }),
    );
  }
}

async function preview() {
  asked += 1;
  const mine = asked;
  const host = $("[data-preview]", form);
  const submit = $("[data-submit]", form);
  clearErrors();
  try {
    const found = await api("/studies/preview", { method: "POST", body: readPlan() });
    if (mine !== asked) return;
    const workers = `${found.workers} worker${found.workers === 1 ? "" : "s"}`;
    const time =
      found.seconds === null
        ? "How long is not known yet."
        : `About ${duration(Math.ceil(found.seconds))} on ${workers}.`;
    host.replaceChildren(
      h("p", {}, h("strong", {}, `${count(found.runs)} run${found.runs === 1 ? "" : "s"}. `), time),
      h("p", { class: "quiet small" }, found.basis),
      found.messages.length
        ? h(
            "div",
            { class: "notice warn small" },
            found.messages.map((one) => h("p", {}, one)),
          )
        : "",
    );
    submit.disabled = false;
  } catch (problem) {
    if (mine !== asked) return;
    host.replaceChildren(h("p", { class: "quiet" }, "The plan cannot be carried out as it is."));
    showProblem(problem);
    submit.disabled = true;
  }
}

async function start(event) {
  event.preventDefault();
  const submit = $("[data-submit]", form);
  submit.disabled = true;
  clearErrors();
  try {
    const study = await api("/studies", { method: "POST", body: readPlan() });
    location.assign(`/studies/${study.id}`);
  } catch (problem) {
    showProblem(problem);
    submit.disabled = false;
  }
}

async function open(file) {
  try {
    fill(JSON.parse(await file.text()));
    await preview();
  } catch (error) {
    showProblem({ title: "Not a plan", message: `${file.name} cannot be read as a plan: ${error.message}` });
  }
}

if (form) {
  const later = throttle(preview, PREVIEW_MS);
  form.addEventListener("input", (event) => {
    loaded = after(loaded, event.target.closest("[data-field]")?.dataset.field ?? "");
    later();
  });
  form.addEventListener("submit", start);
  $("[data-kind]", form).addEventListener("change", showKind);
  $("[data-plan-file]").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = "";
  });
  if (pageData().kind) showKind();
  preview();
}
