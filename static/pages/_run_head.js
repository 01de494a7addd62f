// The head of a run's page: its buttons, its progress, and the banner while the connection is lost.

import { api } from "../lib/api.js";
import { $, confirmed, h, problemNotice } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";
import { refresh } from "../lib/refresh.js";
import { severityTag } from "../lib/severity.js";
import "./_alarms.js";
import { keepOpened, showFindings } from "./_run_findings.js";

const HEAD = ["facts", "actions", "state", "findings"];

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
  showFindings(run);
  const refreshHead = (more = []) => keepOpened(() => refresh([...HEAD, ...more])).catch(() => {});
  let entered = run.phase?.name;
  const advance = (progress, phase) => {
    showProgress(progress, phase);
    // After a silence it has reported something.
    const wasQuiet = document.querySelector("[data-quiet]") !== null;
    if (phase?.name === entered && !wasQuiet) return;
    // What a phase found is stored before the next one begins, which may last for hours.
    entered = phase?.name;
    refreshHead();
  };
  let said = JSON.stringify(run.messages);
  /** @param {string[]} messages */
  const hear = (messages) => {
    const now = JSON.stringify(messages);
    if (now !== said) refreshHead();
    said = now;
  };
  const showQuiet = () => refreshHead();
  return { showProgress: advance, showQuiet, hear, showVerdict, showConnection, refreshHead };
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
  // A trainer elsewhere may not tell how many steps it takes.
  if (!phase) return counted || (done ? `${count(done)} ${unit}` : "preparing");
  return counted ? `${name}: ${counted}` : name;
}

/** Both in the total's unit. */
function bytesOf(done, total) {
  const power = Math.min(Math.floor(Math.log10(total) / 3), 4);
  const parts = [done, total].map((value) => (value / 1000 ** power).toFixed(1).replace(/\.0$/, ""));
  return `${parts[0]} of ${parts[1]} ${["B", "KB", "MB", "GB", "TB"][power]}`;
}

/**
 * What happened, in short; the numbers stand with the probes.
 *
 * @param {{verdict_short: string | null, displaced: boolean | null, displacement_kind?: any}} run
 */
export function showVerdict({ verdict_short: verdict, displaced, displacement_kind: kind }) {
  const box = $("[data-verdict]");
  box.hidden = !verdict;
  const parts = [severityTag(kind, displaced), " ", h("span", {}, verdict ?? "")];
  box.replaceChildren(...parts.filter((part) => part !== null));
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
