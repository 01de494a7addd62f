// The findings of a run's pairs: the first pairs of a kind once it is opened, more on request.

import { api } from "../lib/api.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { pairView } from "../lib/pair-view.js";

const PAGE = 5;

/** Load the examples of whatever kind is opened on the page of this run. */
export function showFindings(run) {
  const show = (kind) => {
    if (!$(".pair", kind)) load(run, kind, 0);
  };
  // Toggle events do not bubble, and a refresh replaces the elements.
  document.addEventListener(
    "toggle",
    (event) => {
      const kind = /** @type {HTMLDetailsElement} */ (event.target);
      if (kind.open && kind.matches("[data-finding]")) show(kind);
    },
    { capture: true },
  );
}

/** Kinds that are open stay so through what replaces the findings. @param {() => Promise<void>} change */
export async function keepOpened(change) {
  const opened = $$("[data-finding][open]").map((kind) => kind.dataset.finding);
  await change();
  for (const kind of $$("[data-finding]")) kind.open = opened.includes(kind.dataset.finding);
}

async function load(run, kind, offset) {
  const host = $("[data-examples]", kind);
  $("[data-more]", host)?.remove();
  try {
    const query = `kind=${kind.dataset.finding}&offset=${offset}&limit=${PAGE}`;
    const { items, total } = await api(`/runs/${run.id}/findings?${query}`);
    host.append(...items.map((item) => example(run, item)));
    const next = offset + items.length;
    if (items.length && next < total) host.append(moreButton(total - next, () => load(run, kind, next)));
  } catch (problem) {
    host.replaceChildren(problemNotice(problem));
  }
}

function moreButton(left, onclick) {
  return h("button", { type: "button", onclick, dataset: { more: "" } }, `Show more (${count(left)} left)`);
}

/** One pair with its finding; the link leads to the whole pair. */
function example(run, item) {
  const view = pairView(
    { ...item, meta: { row: item.row } },
    item.detail ? h("span", { class: "note-ink" }, item.detail) : null,
    h("a", { href: `/datasets/${run.dataset_id}?pair=${item.pair}#pair-${item.pair}` }, "In the dataset"),
  );
  view.removeAttribute("id"); // a pair may stand under several kinds
  return view;
}
