// Adding a dataset: a sample, or a file that is dropped or chosen.

import { api } from "../lib/api.js";
import { $, $$, problemNotice } from "../lib/dom.js";
import { startHubForm } from "./datasets/hub.js";
import { showPreview } from "./datasets/upload.js";

for (const button of $$("[data-sample]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const dataset = await api(`/samples/${encodeURIComponent(button.dataset.sample)}`, { method: "POST" });
      location.assign(`/datasets/${dataset.id}`);
    } catch (problem) {
      button.disabled = false;
      (button.closest(".card, .actions") ?? document.body).append(problemNotice(problem));
    }
  });
}

const zone = $("[data-drop]");
if (zone) {
  startHubForm($("[data-hub-form]", zone));
  const input = $("[data-drop-input]", zone);
  input.addEventListener("change", () => input.files.length && showPreview(input.files[0]));
  $("[data-drop-label]", zone).addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      input.click();
    }
  });
  // A file that misses the zone would otherwise replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length && $("[data-drop-cancel]", zone).hidden)
      showPreview(event.dataTransfer.files[0]);
  });
}
