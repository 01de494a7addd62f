// The head of a run's page: its buttons, its progress, and the banner while the connection is lost.

import { api } from "../lib/api.js";
import { $, confirmed, problemNotice } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";
import { refresh } from "../lib/refresh.js";

const HEAD = ["facts", "actions", "state"];

export function headOf(run) {
  document.addEventListener("click", async (event) => {
    const button = /** @type {Element} */ (event.target).closest("button[data-act]");
    if (!(button instanceof HTMLButtonElement)) return;
    button.disabled = true;
    try {
      await act(run, button.dataset.act);
    } catch (problem) {
      $("[data-problem]").replaceChildren(problemNotice(problem));
    }
    button.disabled = false;
  });
  const refreshHead = (more = []) => refresh([...HEAD, ...more]).catch(() => {});
  return { showProgress, showVerdict, showConnection, refreshHead };
}

async function act(run, action) {
  if (action === "delete") {
    const isSure = await confirmed({
      title: `Delete “${run.name}”?`,
      action: "Delete the run",
      text: "Its numbers, checkpoints and resulting model are deleted. The dataset stays.",
    });
    if (!isSure) return;
    await api(`/runs/${run.id}`, { method: "DELETE" });
    location.assign("/runs");
    return;
  }
  await api(`/runs/${run.id}/${action}`, { method: "POST" });
  if (action === "resume") location.reload();
  else await refresh(HEAD);
}

/** What the run does now; `progress` stands in for the phase where a worker has reported none. */
export function showProgress(progress, phase) {
  const { done, total, eta_seconds } = phase ?? progress;
  const box = $("[data-progress]");
  if (!box) return;
  const part = total ? (100 * done) / total : 0;
  const bar = $(".bar", box);
  bar.classList.toggle("unknown", !total);
  bar.setAttribute("aria-valuenow", String(Math.round(part)));
  $("rect", bar).setAttribute("width", `${part}%`);
  $("[data-progress-text]", box).textContent = phaseText(progress, phase);
  $("[data-progress-eta]", box).textContent = Number.isFinite(eta_seconds) ? `${duration(eta_seconds)} left` : "";
}

/** "downloading 3.1 of 15 GB", "scoring: 12 of 60 pairs", "loading". */
export function phaseText(progress, phase) {
  const { name, done, total, unit } = phase ?? progress;
  if (unit === "bytes" && total) return `${name} ${bytesOf(done, total)}`;
  const counted = total ? `${count(done)} of ${count(total)} ${unit}` : "";
  if (!phase) return counted || "preparing";
  return counted ? `${name}: ${counted}` : name;
}

/** Both in the total's unit. */
function bytesOf(done, total) {
  const power = Math.min(Math.floor(Math.log10(total) / 3), 4);
  const parts = [done, total].map((value) => (value / 1000 ** power).toFixed(1).replace(/\.0$/, ""));
  return `${parts[0]} of ${parts[1]} ${["B", "KB", "MB", "GB", "TB"][power]}`;
}

export function showVerdict(sentence) {
  const box = $("[data-verdict]");
  box.textContent = sentence ?? "";
  box.hidden = !sentence;
}

let timer = 0;

/** Show what is wrong with the connection, null: nothing. Short interruptions are not shown. */
export function showConnection(trouble) {
  clearTimeout(timer);
  const banner = $("[data-banner]");
  if (!trouble) {
    banner.hidden = true;
    return;
  }
  timer = setTimeout(() => {
    banner.textContent = trouble;
    banner.hidden = false;
  }, 700);
}
