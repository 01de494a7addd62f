// The review page: one pair at a time by the keyboard, or the queue as a list.

import { api, pageData } from "../lib/api.js";
import { $, $$, h, problemNotice, toast } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { askForBulk } from "./review/bulk.js";
import { pairCard } from "./review/card.js";
import { Decisions } from "./review/decisions.js";
import { editor } from "./review/edit.js";
import { Filters } from "./review/filters.js";
import { listen, showHelp } from "./review/keys.js";
import { listView, PAGE } from "./review/list.js";
import * as view from "./review/pair.js";
import { Queue } from "./review/queue.js";

const PROGRESS_MS = 15_000;

const dataset = pageData();
const queue = new Queue(dataset.id);
const { root } = queue;
const stage = $("[data-stage]");
/** at: the place in the queue; mode: "one" pair or the "list". */
const state = { at: 0, mode: "one", editing: false, isHistoryOpen: false };
const filters = new Filters($("[data-filters]"), () => reload());
const decisions = new Decisions(queue, () => filters.reviewer, {
  onstored: (item) => {
    if (current()?.pair === item.pair && !state.editing && document.activeElement?.id !== "note") redraw();
  },
  redraw,
  open: (pair) => {
    state.mode = "one";
    return goToPair(pair);
  },
  reload: () => reload(queue.pairs[state.at] ?? null),
});
const { progress } = decisions;

const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));

/** Set filters and mode from the address; returns the pair that it names, or null. */
function readAddress() {
  const query = new URLSearchParams(location.search);
  filters.readAddress(query);
  state.mode = query.get("view") === "list" ? "list" : "one";
  return query.has("at") ? Number(query.get("at")) : null;
}

function writeAddress() {
  const query = filters.addressQuery();
  if (state.mode === "list") query.set("view", "list");
  if (queue.pairs.length) query.set("at", String(queue.pairs[state.at]));
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}

// --- loading and showing -------------------------------------------------------------------------

/** Load the queue anew and show a pair of it, by default the first. */
async function reload(pair = null) {
  stage.setAttribute("aria-busy", "true");
  try {
    await decisions.settled();
    const query = filters.query();
    query.set("sort", filters.value("sort"));
    await queue.load(query);
    $("[data-problem]").replaceChildren();
    state.at = Math.max(0, queue.pairs.indexOf(pair));
    if (pair !== null && queue.pairs[state.at] !== pair) toast(`Pair ${pair} is not among these.`);
    await show();
  } catch (problem) {
    showProblem(problem);
  }
  stage.removeAttribute("aria-busy");
}

const current = () => queue.items.get(queue.pairs[state.at]) ?? null;

async function show() {
  writeAddress();
  for (const button of $$("[data-view]", filters.form)) {
    button.setAttribute("aria-pressed", String(button.dataset.view === state.mode));
  }
  if (!queue.pairs.length) return showEmpty();
  if (state.mode === "list") return showList();
  const pair = queue.pairs[state.at];
  const wasCached = queue.items.has(pair);
  const item = await queue.get(pair);
  if (pair !== queue.pairs[state.at]) return; // the reviewer moved on meanwhile
  if (!item) {
    stage.replaceChildren(problemNotice({ title: "Gone", message: `Pair ${pair} is no longer there.` }));
    return;
  }
  draw();
  const place = `${state.at + 1} of ${queue.pairs.length}`;
  $("[data-announce]").textContent = `Pair ${pair}, ${place}, ${item.review.verdict ?? "not reviewed"}`;
  queue.prefetch(state.at);
  if (wasCached && queue.isStale(pair) && !item.unsent) {
    // Other reviewers may have decided since it was prefetched.
    await queue.fetch([pair]).catch(() => {});
    if (pair === queue.pairs[state.at] && !state.editing) draw();
  }
}

function showEmpty() {
  const { isAll } = filters;
  const showAll = () => {
    filters.clear();
    reload();
  };
  stage.replaceChildren(
    h(
      "section",
      { class: "card empty" },
      h("h2", {}, isAll ? "This dataset has no pairs" : "Nothing left here"),
      h("p", {}, isAll ? "" : `No pair is ${filters.words()}.`),
      isAll ? null : h("button", { type: "button", class: "primary", onclick: showAll }, "Show all pairs"),
    ),
  );
}

async function showList() {
  const start = Math.floor(state.at / PAGE) * PAGE;
  const pairs = queue.pairs.slice(start, start + PAGE);
  try {
    await queue.fetch(pairs.filter((pair) => !queue.items.has(pair) || queue.isStale(pair)));
  } catch (problem) {
    showProblem(problem);
    return;
  }
  const sort = filters.value("sort").replace("-", "");
  const measure = ["pair", "updated_at"].includes(sort) ? "ches" : sort;
  stage.replaceChildren(
    listView({
      queue,
      at: state.at,
      measure,
      items: pairs.map((pair) => queue.items.get(pair)).filter(Boolean),
      open: (at) => {
        state.mode = "one";
        go(at);
      },
      turn: (at) => {
        go(at);
        stage.scrollIntoView({ block: "start" });
      },
    }),
  );
}

/** Draw the current pair. */
function draw() {
  const item = current();
  if (!item) return;
  // Asked of the page: an event that tells of it would come after what is drawn in between.
  state.isHistoryOpen = $("[data-history] details")?.open ?? state.isHistoryOpen;
  stage.replaceChildren(
    pairCard({
      item,
      at: state.at,
      total: queue.pairs.length,
      root,
      body: state.editing
        ? editorOf(item)
        : h("div", { class: "review-body" }, view.prompt(item), view.responses(item)),
      canUndo: decisions.done.length > 0,
      displacementRun: queue.displacementRun,
      hasTrainRuns: dataset.train_runs.length > 0,
      isHistoryOpen: state.isHistoryOpen,
      go,
      undo: () => decisions.undo(),
      decide: (verdict) => (verdict === "fix" ? startEditing() : decide(verdict)),
      saveNote,
    }),
  );
}

function redraw() {
  if (state.mode === "one") draw();
}

function editorOf(item) {
  return editor({
    root,
    item,
    reviewer: filters.reviewer,
    onsaved: showEdited,
    oncancel: () => {
      state.editing = false;
      draw();
    },
    onmark: () => {
      state.editing = false;
      decide("fix");
    },
  });
}

/** Go to a place in the queue. */
function go(at) {
  if (!queue.pairs.length) return;
  const to = Math.min(Math.max(0, at), queue.pairs.length - 1);
  if (to === state.at && state.mode === "one" && current() && at !== to) {
    toast(at < 0 ? "This is the first pair." : "That was the last pair here.");
    return;
  }
  state.at = to;
  state.editing = false;
  show().catch(showProblem);
}

async function goToPair(pair) {
  const at = queue.pairs.indexOf(pair);
  if (at >= 0) return go(at);
  // It has left the filter: insert it at the current place.
  queue.pairs.splice(state.at, 0, pair);
  state.editing = false;
  return show();
}

// --- deciding and editing ------------------------------------------------------------------------

function decide(verdict) {
  const item = current();
  if (!item || state.mode !== "one") return;
  const note = item.draft === undefined ? {} : { note: item.draft };
  decisions.send(item, { verdict, ...note });
  if (state.at + 1 < queue.pairs.length) go(state.at + 1);
  else {
    draw();
    toast("That was the last pair here.");
  }
}

function saveNote(item) {
  if (item.draft === undefined || item.draft === (item.review.note ?? "")) return;
  // Without a verdict the note is stored together with the next one.
  if (item.review.verdict) decisions.send(item, { verdict: item.review.verdict, note: item.draft });
}

function startEditing() {
  if (!current() || state.mode !== "one") return;
  state.editing = true;
  draw();
  $("#edit-preferred").focus();
}

/** A new version of a pair's text was stored. */
function showEdited(item) {
  state.editing = false;
  const cached = queue.put(item);
  delete cached.draft;
  decisions.done.push({ pair: item.pair, edit: true });
  toast(`Pair ${item.pair} is now version ${item.text_version}; the old text is kept.`);
  progress.refresh();
  if (state.at + 1 < queue.pairs.length) go(state.at + 1);
  else draw();
}

async function decideAll() {
  await decisions.settled();
  // Counted now: verdicts may have changed since the queue was loaded.
  const now = await api(`${root}/reviews?${filters.query()}&limit=1`);
  const batch = await askForBulk({
    root,
    filter: filters.body(),
    total: now.total,
    words: filters.words(),
    reviewer: filters.reviewer,
  });
  if (!batch) return;
  decisions.done.push({ batch: batch.id });
  toast(`${count(batch.pairs)} pairs: ${batch.verdict}. z undoes it.`);
  progress.refresh();
  await reload(queue.pairs[state.at] ?? null);
}

// --- wiring --------------------------------------------------------------------------------------

function setMode(mode) {
  state.mode = mode;
  show();
}

filters.form.addEventListener("change", (event) => {
  if (event.target.name === "reviewer") return;
  if (event.target.name === "only" && event.target.value === "not_by" && !filters.reviewer) {
    toast("Write your name first, to see what you have not reviewed.");
    filters.control("reviewer").focus();
  }
  event.target.blur();
  reload();
});
for (const button of $$("[data-view]", filters.form)) {
  button.addEventListener("click", () => {
    state.editing = false;
    setMode(button.dataset.view);
  });
}
$("[data-help]").addEventListener("click", showHelp);
$("[data-bulk]").addEventListener("click", decideAll);

const stride = () => (state.mode === "list" ? PAGE : 1);
listen({
  k: () => decide("keep"),
  d: () => decide("drop"),
  u: () => decide("unsure"),
  f: startEditing,
  n: () => $("#note")?.focus(),
  z: () => decisions.undo(),
  "?": showHelp,
  h: () => {
    const box = $("[data-history] details");
    if (!box) return;
    box.open = !box.open;
    box.scrollIntoView({ block: "nearest" });
  },
  l: () => setMode(state.mode === "list" ? "one" : "list"),
  ArrowRight: () => go(state.at + stride()),
  ArrowLeft: () => go(state.at - stride()),
  ArrowDown: () => state.mode === "one" && go(state.at + 1),
  ArrowUp: () => state.mode === "one" && go(state.at - 1),
  Home: () => go(0),
  End: () => go(queue.pairs.length - 1),
});

addEventListener("beforeunload", (event) => {
  if (decisions.sending.size) event.preventDefault();
});
setInterval(() => {
  if (!document.hidden) progress.refresh();
}, PROGRESS_MS);

const first = readAddress();
await reload(first);
progress.refresh();
