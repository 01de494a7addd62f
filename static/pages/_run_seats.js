// Which workers train a run together, each with a seat, and for how many the run waits.

import { api } from "../lib/api.js";
import { throttle } from "../lib/controls.js";
import { $, h, inCode } from "../lib/dom.js";
import { ago, count } from "../lib/format.js";

const ENTERED_MS = 500;
// A worker that takes a seat, or gets ready, is no news of the run.
const WAITING_MS = 2000;
const AT_WORK_MS = 60_000;

/**
 * Show the workers of a run that has seats, and keep that fresh.
 *
 * @param {any} run
 * @returns {() => void} to be called as the run enters another phase
 */
export function seatsOf(run) {
  let timer = 0;
  let again = 0;
  const show = async () => {
    clearTimeout(timer);
    try {
      const answer = await api(`/runs/${run.id}/seats`);
      draw(answer);
      again = answer.begun ? AT_WORK_MS : WAITING_MS;
      if (!answer.total) again = 0;
    } catch {
      // What is shown stays.
    }
    clearTimeout(timer);
    if (again) timer = setTimeout(show, again);
  };
  show();
  return throttle(show, ENTERED_MS);
}

let said = null;

function draw({ total, taken, begun, note, items }) {
  const section = $("[data-seats]");
  section.hidden = total === 0;
  const processes = items.reduce((sum, one) => sum + one.processes, 0);
  $("[data-seats-state]", section).textContent = begun
    ? `${count(processes)} processes of ${count(total)} workers`
    : `${count(taken)} of ${count(total)} seats taken`;
  const told = $("[data-seats-note]", section);
  // It is read out as it changes.
  if (note !== said) told.replaceChildren(...inCode(note ?? ""));
  said = note;
  told.hidden = note === null;
  $("[data-seats-workers]", section).replaceChildren(...items.map(row));
}

function row(one) {
  const { worker } = one;
  const name = h("span", { class: worker ? "clip" : "quiet", title: worker }, worker ?? "nobody yet");
  const at = one.taken_at;
  const since = at && h("time", { datetime: at, title: `${at.slice(0, 19).replace("T", " ")} UTC` }, ago(at));
  return h(
    "tr",
    {},
    h("td", { class: "worker" }, name),
    h("td", { class: "nowrap" }, since || "–"),
    h("td", { class: "num narrow-hide" }, count(one.seat + 1)),
    h("td", { class: "num" }, count(one.processes)),
    h("td", { class: "quiet small nowrap" }, one.state),
  );
}
