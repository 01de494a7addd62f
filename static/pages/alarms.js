// Alarms and their rules: adding and deleting rules; the lists stay up to date.

import { api } from "../lib/api.js";
import { $, problemNotice } from "../lib/dom.js";
import { keepFresh, refresh } from "../lib/refresh.js";
import "./_alarms.js";

const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));
const form = $("[data-rule-form]");

function showThreshold() {
  const { dataset } = form.elements.kind.selectedOptions[0];
  const has = "threshold" in dataset;
  $("[data-threshold-field]").hidden = !has;
  form.elements.threshold.required = has;
  $("[data-unit]", $("[data-threshold-field]")).textContent = dataset.unit ?? "";
}
form.elements.kind.addEventListener("change", showThreshold);
showThreshold();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { kind, threshold, run } = form.elements;
  const has = "threshold" in kind.selectedOptions[0].dataset;
  const body = {
    kind: kind.value,
    ...(has ? { threshold: Number(threshold.value) } : {}),
    ...(run?.value ? { run_id: Number(run.value) } : {}),
  };
  try {
    await api("/alarm-rules", { method: "POST", body });
    $("[data-problem]").replaceChildren();
    await refresh();
  } catch (problem) {
    showProblem(problem);
  }
});

document.addEventListener("click", async (event) => {
  const button = /** @type {Element} */ (event.target).closest("button[data-delete-rule]");
  if (!(button instanceof HTMLButtonElement)) return;
  try {
    await api(`/alarm-rules/${button.dataset.deleteRule}`, { method: "DELETE" });
    await refresh();
  } catch (problem) {
    showProblem(problem);
  }
});

keepFresh();
