// Alarms, wherever they are listed: the button that says that somebody has seen one.

import { api } from "../lib/api.js";
import { toast } from "../lib/dom.js";

document.addEventListener("click", async (event) => {
  const button = /** @type {Element} */ (event.target).closest("button[data-acknowledge]");
  if (!(button instanceof HTMLButtonElement)) return;
  button.disabled = true;
  try {
    const { acknowledged_by: by } = await api(`/alarms/${button.dataset.acknowledge}/acknowledge`, { method: "POST" });
    button.replaceWith(`seen by ${by}`);
  } catch (problem) {
    button.disabled = false;
    toast(problem instanceof Error ? problem.message : String(problem));
  }
});
