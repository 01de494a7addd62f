// Who does the shards of a run, how fast each worker is, and the time left of the whole.

import { api } from "../lib/api.js";
import { throttle } from "../lib/controls.js";
import { $, h } from "../lib/dom.js";
import { count, duration, number } from "../lib/format.js";

const REFRESH_MS = 2000;

/**
 * Show the workers of a run where there is more than one of them, or more than one shard.
 *
 * @param {any} run
 * @param {{ untilDone?: boolean }} [options] untilDone: hide them once all shards are done
 * @returns {() => void} to be called as the run advances
 */
export function shardsOf(run, { untilDone = false } = {}) {
  const show = async () => {
    try {
      const answer = await api(`/runs/${run.id}/shards?limit=0`);
      draw(answer, untilDone && answer.shards_done === answer.total);
    } catch {
      // What is shown stays; the next progress asks again.
    }
  };
  show();
  return throttle(show, REFRESH_MS);
}

function draw({ total, shards_done, unit, per_second, eta_seconds, workers }, isOver) {
  const section = $("[data-shards]");
  section.hidden = isOver || (total < 2 && workers.length < 2);
  const facts = [`${count(shards_done)} of ${count(total)} shards done`];
  if (per_second) facts.push(`${number(per_second)} ${unit} a second`);
  if (Number.isFinite(eta_seconds)) facts.push(`${duration(eta_seconds)} left`);
  $("[data-shards-state]", section).textContent = facts.join(" · ");
  $("[data-shards-workers]", section).replaceChildren(...workers.map(row));
}

function row(one) {
  return h(
    "tr",
    {},
    h("td", { class: "worker" }, h("span", { class: "clip", title: one.worker }, one.worker)),
    h("td", { class: "num" }, count(one.shards_done)),
    h("td", { class: "num" }, count(one.done)),
    h("td", { class: "num narrow-hide" }, one.per_second === null ? "–" : number(one.per_second)),
    h("td", { class: "quiet small nowrap" }, one.is_at_work ? "at work" : ""),
  );
}
