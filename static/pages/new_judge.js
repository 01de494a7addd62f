// The form of a judge run: shows the settings of the chosen judge, and reads them into a configuration.

import { api, pageData } from "../lib/api.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { judgeConfig } from "./new_judge/values.js";

const { dataset_id, generate_run, labels } = pageData();
const form = $("[data-judge-form]");
const control = (name) => $(`#field-${name}`, form);

function showJudge() {
  for (const part of $$("section[data-judge]", form)) part.hidden = part.dataset.judge !== control("judge").value;
}

/** The labels of the chosen classifier; a reward model has none. */
function showLabels() {
  const select = control("label");
  const known = labels[control("classifier").value] ?? [];
  const wanted = select.value || select.dataset.wanted;
  select.replaceChildren(
    h("option", { value: "" }, "Choose a label…"), // none by default: the first may mean the opposite
    ...known.map((label) => h("option", { value: label, selected: label === wanted }, label)),
  );
  $('[data-field="label"]', form).hidden = known.length === 0;
}

function showErrors(problem) {
  const others = [];
  for (const error of problem.errors ?? []) {
    const box = $(`[data-field="${error.field?.replace(/^config\./, "").split(".")[0]}"]`, form);
    if (box && !box.closest("[hidden]")) $(".error", box).textContent = error.message;
    else others.push(error);
  }
  if (others.length || !problem.errors?.length) $("[data-problem]", form).replaceChildren(problemNotice(problem));
  const first = $$(".error", form).find((box) => box.textContent);
  first?.closest("[data-field]").querySelector("input, select, textarea").focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  $("[data-problem]", form).replaceChildren();
  for (const box of $$(".error", form)) box.textContent = "";
  const button = $("[data-submit]", form);
  button.disabled = true;
  try {
    const name = $("#run-name", form).value.trim();
    const config = { generate_run, ...judgeConfig((field) => control(field).value) };
    const body = { kind: "judge", dataset_id, config, ...(name ? { name } : {}) };
    const run = await api("/runs", { method: "POST", body });
    location.assign(`/runs/${run.id}`);
  } catch (problem) {
    showErrors(problem);
    button.disabled = false;
  }
});

control("judge").addEventListener("change", showJudge);
control("classifier").addEventListener("change", showLabels);
showJudge();
showLabels();
$("[data-submit]", form).disabled = false;
