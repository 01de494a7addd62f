// The review page: one pair at a time by the keyboard, or the list. A verdict shows at once and is
// stored meanwhile; where that fails it is taken back, and where another decided, both are shown.

import { api, pageData } from "../lib/api.js";
import { $, h, problemNotice, toast } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { askForBulk } from "./review/bulk.js";
import { editor } from "./review/edit.js";
import { listen, showHelp } from "./review/keys.js";
import { listView, PAGE } from "./review/list.js";
import * as view from "./review/pair.js";
import { Queue } from "./review/queue.js";

const NAME_KEY = "chesboard-reviewer";
const PROGRESS_MS = 15_000;
const ONLY = {
  flagged: ["flagged", "true"],
  displaced: ["displaced", "true"],
  disputed: ["disputed", "true"],
  edited: ["edited", "true"],
};

const dataset = pageData();
const queue = new Queue(dataset.id);
const { root } = queue;
const filters = $("[data-filters]");
const stage = $("[data-stage]");
const control = (name) => filters.elements[name];
const state = { at: 0, mode: "one", editing: false, historyOpen: false };
const done = []; // what this reviewer did, to be undone from the end: {pair} or {batch}
const sending = new Map(); // pair → the promise of its last request

// --- the reviewer's name, kept on this machine ---------------------------------------------------

function storedName() {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}
const reviewer = () => control("reviewer").value.trim();
control("reviewer").value = storedName();
control("reviewer").addEventListener("change", () => {
  try {
    localStorage.setItem(NAME_KEY, reviewer());
  } catch {
    /* it holds for this page only */
  }
  if (control("only").value === "not_by") reload();
});
// Enter in the name's box is not a search: it goes back to the pairs.
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  document.activeElement?.blur();
});

// --- filters, sort and position live in the address ----------------------------------------------

function readAddress() {
  const query = new URLSearchParams(location.search);
  const set = (name, value) => {
    if (control(name) && value !== null && [...control(name).options].some((option) => option.value === value))
      control(name).value = value;
  };
  set("verdict", query.get("verdict"));
  set("only", query.get("only"));
  set("sort", query.get("sort"));
  set("score_run", query.get("score_run"));
  set("displacement_run", query.get("displacement_run"));
  state.mode = query.get("view") === "list" ? "list" : "one";
  return query.has("at") ? Number(query.get("at")) : null;
}

function writeAddress() {
  const query = new URLSearchParams();
  for (const name of ["verdict", "only", "sort", "score_run", "displacement_run"]) {
    const box = control(name);
    if (box && box.value !== box.options[0].value) query.set(name, box.value);
  }
  if (state.mode === "list") query.set("view", "list");
  if (queue.pairs.length) query.set("at", queue.pairs[state.at]);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
}

function filterQuery() {
  const query = new URLSearchParams();
  if (control("verdict").value) query.set("verdict", control("verdict").value);
  const only = control("only").value;
  if (ONLY[only]) query.set(...ONLY[only]);
  // Nobody without a name has said anything.
  if (only === "not_by" && reviewer()) query.set("not_by", reviewer());
  for (const name of ["score_run", "displacement_run"]) if (control(name)) query.set(name, control(name).value);
  return query;
}

/** The same as the API wants it in a body. */
function filterBody() {
  const body = Object.fromEntries(filterQuery());
  if (body.verdict) body.verdict = [body.verdict];
  for (const [name] of Object.values(ONLY)) if (body[name]) body[name] = true;
  for (const name of ["score_run", "displacement_run"]) if (body[name]) body[name] = Number(body[name]);
  return body;
}

function filterWords() {
  const label = (name) => control(name).selectedOptions[0].textContent;
  const parts = [control("verdict").value ? label("verdict") : "", control("only").value ? label("only") : ""].filter(
    Boolean,
  );
  return parts.length ? parts.join(", ") : "the whole dataset";
}

// --- loading and showing -------------------------------------------------------------------------

async function reload(pair = null) {
  stage.setAttribute("aria-busy", "true");
  try {
    await Promise.allSettled(sending.values());
    const query = filterQuery();
    query.set("sort", control("sort").value);
    await queue.load(query);
    $("[data-problem]").replaceChildren();
    state.at = Math.max(0, queue.pairs.indexOf(pair));
    if (pair !== null && queue.pairs[state.at] !== pair) toast(`Pair ${pair} is not among these.`);
    await show();
  } catch (problem) {
    $("[data-problem]").replaceChildren(problemNotice(problem));
  }
  stage.removeAttribute("aria-busy");
}

const current = () => queue.items.get(queue.pairs[state.at]) ?? null;

async function show() {
  writeAddress();
  for (const button of filters.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", String(button.dataset.view === state.mode));
  if (!queue.pairs.length) return showNothing();
  if (state.mode === "list") return showList();
  const pair = queue.pairs[state.at];
  const wasThere = queue.items.has(pair);
  const item = await queue.get(pair);
  if (pair !== queue.pairs[state.at]) return; // someone went on meanwhile
  if (!item)
    return stage.replaceChildren(problemNotice({ title: "Gone", message: `Pair ${pair} is no longer there.` }));
  draw();
  $("[data-announce]").textContent =
    `Pair ${pair}, ${state.at + 1} of ${queue.pairs.length}, ${item.review.verdict ?? "not reviewed"}`;
  queue.prefetch(state.at);
  if (wasThere && queue.isStale(pair) && !item.unsent) {
    // What others said since it was fetched ahead.
    await queue.fetch([pair]).catch(() => {});
    if (pair === queue.pairs[state.at] && !state.editing) draw();
  }
}

function showNothing() {
  const isAll = !control("verdict").value && !control("only").value;
  stage.replaceChildren(
    h(
      "section",
      { class: "card empty" },
      h("h2", {}, isAll ? "This dataset has no pairs" : "Nothing left here"),
      h("p", {}, isAll ? "" : `No pair is ${filterWords()}.`),
      isAll
        ? null
        : h(
            "button",
            {
              type: "button",
              class: "primary",
              onclick: () => {
                control("verdict").value = "";
                control("only").value = "";
                reload();
              },
            },
            "Show all pairs",
          ),
    ),
  );
}

async function showList() {
  const start = Math.floor(state.at / PAGE) * PAGE;
  const pairs = queue.pairs.slice(start, start + PAGE);
  try {
    await queue.fetch(pairs.filter((pair) => !queue.items.has(pair) || queue.isStale(pair)));
  } catch (problem) {
    return $("[data-problem]").replaceChildren(problemNotice(problem));
  }
  const sort = control("sort").value.replace("-", "");
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

function draw() {
  const item = current();
  if (!item) return;
  const { review } = item;
  const note = h(
    "textarea",
    {
      id: "note",
      rows: "2",
      maxlength: "4000",
      placeholder: review.verdict ? "Why?" : "Stored with the verdict",
      "aria-keyshortcuts": "n",
    },
    item.draft ?? review.note ?? "",
  );
  note.addEventListener("input", () => {
    item.draft = note.value;
  });
  note.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
      event.preventDefault();
      note.blur();
    }
  });
  note.addEventListener("blur", () => saveNote(item));
  const body = state.editing
    ? editor({
        root,
        item,
        reviewer: reviewer(),
        onsaved: saved,
        oncancel: () => {
          state.editing = false;
          draw();
        },
        onmark: () => {
          state.editing = false;
          decide("fix");
        },
      })
    : h("div", { class: "review-body" }, view.prompt(item), view.responses(item));
  stage.replaceChildren(
    h(
      "div",
      { class: "review-grid" },
      h(
        "section",
        { class: "card review-card", tabindex: "-1", "aria-label": `Pair ${item.pair}` },
        h(
          "div",
          { class: "review-head" },
          h("h2", {}, `Pair ${item.pair}`),
          h("span", { class: "quiet small" }, item.meta.row ? `row ${count(item.meta.row)}` : ""),
          view.tags(item),
          h(
            "span",
            { class: "review-place" },
            h(
              "button",
              {
                type: "button",
                class: "icon",
                disabled: state.at === 0,
                "aria-label": "Previous pair",
                onclick: () => go(state.at - 1),
              },
              "←",
            ),
            h("span", {}, `${count(state.at + 1)} of ${count(queue.pairs.length)}`),
            h(
              "button",
              {
                type: "button",
                class: "icon",
                disabled: state.at + 1 >= queue.pairs.length,
                "aria-label": "Next pair",
                onclick: () => go(state.at + 1),
              },
              "→",
            ),
          ),
        ),
        body,
      ),
      h(
        "aside",
        { class: "card review-side" },
        h(
          "section",
          { class: "review-decide" },
          h(
            "div",
            { class: "review-state" },
            view.verdictChip(review.verdict, review.reviewer ? `by ${review.reviewer}` : ""),
            item.unsent ? h("span", { class: "quiet small", "data-unsent": "" }, "storing…") : null,
            h(
              "button",
              { type: "button", class: "icon", disabled: !done.length, onclick: undo, "aria-keyshortcuts": "z" },
              "Undo ",
              h("kbd", {}, "z"),
            ),
          ),
          view.verdictButtons(review.verdict, (verdict) => (verdict === "fix" ? startEditing() : decide(verdict))),
          h("div", { class: "field" }, h("label", { for: "note" }, "Note ", h("kbd", {}, "n")), note),
          view.opinions(item),
        ),
        h("section", {}, h("h3", {}, "Measures"), view.measures(item)),
        dataset.train_runs.length
          ? h("section", {}, h("h3", {}, "Measured displacement"), view.displacement(item, queue.displacementRun))
          : null,
        historySection(item),
      ),
    ),
  );
}

function historySection(item) {
  const host = h("div", {});
  const box = h("details", { open: state.historyOpen }, h("summary", {}, `History (${item.review.version})`), host);
  const load = async () => {
    try {
      host.replaceChildren(...view.history(await api(`${root}/pairs/${item.pair}/review/history`)));
    } catch (problem) {
      host.replaceChildren(problemNotice(problem));
    }
  };
  box.addEventListener("toggle", () => {
    state.historyOpen = box.open;
    if (box.open) load();
  });
  return h("section", { "data-history": "" }, box);
}

function go(at) {
  if (!queue.pairs.length) return;
  const to = Math.min(Math.max(0, at), queue.pairs.length - 1);
  if (to === state.at && state.mode === "one" && current() && at !== to) {
    toast(at < 0 ? "This is the first pair." : "That was the last pair here.");
    return;
  }
  state.at = to;
  state.editing = false;
  show().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
}

// --- deciding ------------------------------------------------------------------------------------

function decide(verdict) {
  const item = current();
  if (!item || state.mode !== "one") return;
  const note = item.draft === undefined ? {} : { note: item.draft };
  send(item, { verdict, ...note });
  if (state.at + 1 < queue.pairs.length) go(state.at + 1);
  else {
    draw();
    toast("That was the last pair here.");
  }
}

function saveNote(item) {
  if (item.draft === undefined || item.draft === (item.review.note ?? "")) return;
  // Without a verdict the note waits for one.
  if (item.review.verdict) send(item, { verdict: item.review.verdict, note: item.draft });
}

/** Show the verdict at once and store it; one request a pair at a time, in their order. */
function send(item, wanted) {
  const before = item.review;
  item.review = { ...before, verdict: wanted.verdict, note: wanted.note ?? before.note, reviewer: reviewer() || null };
  item.unsent = (item.unsent ?? 0) + 1;
  tally(before.verdict, wanted.verdict);
  sent += 1;
  const request = (sending.get(item.pair) ?? Promise.resolve()).then(() => store(item, before, wanted));
  sending.set(item.pair, request);
  done.push({ pair: item.pair });
}

async function store(item, before, wanted) {
  // An earlier verdict of ours, still on its way when this one was given, has raised the version.
  const version = item.stored?.version ?? before.version;
  let review = null;
  try {
    review = await api(`${root}/pairs/${item.pair}/review`, {
      method: "PUT",
      body: { ...wanted, reviewer: reviewer() || null, version },
    });
  } catch (problem) {
    forget(item.pair);
    refused(item, before, wanted, problem);
  }
  item.unsent -= 1;
  if (review) {
    item.stored = review;
    if (reviewer()) item.said = { ...item.said, [reviewer()]: review.verdict };
    if (!item.unsent) {
      item.review = review;
      delete item.draft;
    }
  }
  if (!item.unsent) {
    delete item.unsent;
    delete item.stored;
    sending.delete(item.pair);
  }
  if (current()?.pair === item.pair && !state.editing && document.activeElement?.id !== "note") redraw();
}

function forget(pair) {
  const at = done.findLastIndex((step) => step.pair === pair);
  if (at >= 0) done.splice(at, 1);
}

function redraw() {
  if (state.mode === "one") draw();
}

/** Take back what was shown, and say why. */
function refused(item, before, wanted, problem) {
  const theirs = problem.more?.current;
  item.review = theirs ?? item.stored ?? before;
  if (theirs) item.stored = undefined;
  tally(wanted.verdict, item.review.verdict);
  const who = theirs?.reviewer || "Someone";
  const again = () => {
    close();
    send(item, wanted);
    redraw();
  };
  const notice = h(
    "div",
    { class: `notice ${theirs ? "warn" : "bad"}`, role: "alert", "data-refused": item.pair },
    h(
      "strong",
      {},
      theirs
        ? `${who} decided pair ${item.pair} before you`
        : `Pair ${item.pair}: “${wanted.verdict}” could not be stored`,
    ),
    theirs
      ? h(
          "div",
          { class: "review-conflict" },
          view.verdictChip(theirs.verdict, theirs.reviewer ? `by ${theirs.reviewer}` : ""),
          theirs.note ? h("span", {}, `“${theirs.note}”`) : null,
          h("span", { class: "quiet" }, `Your “${wanted.verdict}” was not stored.`),
        )
      : h("p", {}, problem.message),
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: again }, theirs ? `Overrule with “${wanted.verdict}”` : "Try again"),
      theirs ? h("button", { type: "button", onclick: () => close() }, "Leave theirs") : null,
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            state.mode = "one";
            goToPair(item.pair);
          },
        },
        `Look at pair ${item.pair}`,
      ),
      theirs ? null : h("button", { type: "button", onclick: () => close() }, "Dismiss"),
    ),
  );
  const close = () => notice.remove();
  $(`[data-refused="${item.pair}"]`)?.remove();
  $("[data-notices]").append(notice);
}

async function goToPair(pair) {
  const at = queue.pairs.indexOf(pair);
  if (at >= 0) return go(at);
  // It has left the filter: show it where we are, and go on from there.
  queue.pairs.splice(state.at, 0, pair);
  state.editing = false;
  return show();
}

async function undo() {
  const last = done.pop();
  if (!last) return toast("There is nothing of yours to undo here.");
  try {
    if (last.batch) {
      const { undone, kept } = await api(
        `${root}/reviews/batches/${last.batch}/undo${reviewer() ? `?reviewer=${encodeURIComponent(reviewer())}` : ""}`,
        { method: "POST" },
      );
      toast(
        `${count(undone)} pairs have their former verdict again${kept ? `; ${count(kept)} were changed since and stay` : ""}.`,
      );
      return await reload(queue.pairs[state.at] ?? null);
    }
    await sending.get(last.pair);
    const item = await queue.get(last.pair);
    const before = item.review.verdict;
    const review = await api(`${root}/pairs/${last.pair}/review/undo`, {
      method: "POST",
      body: { reviewer: reviewer() || null, version: item.review.version },
    });
    tally(before, review.verdict);
    delete item.draft;
    item.review = review;
    if (last.edit) await queue.fetch([last.pair]);
    state.mode = "one";
    await goToPair(last.pair);
    redraw();
    toast(`Pair ${last.pair}: ${review.verdict ?? "not reviewed"} again.`);
  } catch (problem) {
    const theirs = problem.more?.current;
    if (theirs && queue.items.has(last.pair)) queue.items.get(last.pair).review = theirs;
    $("[data-notices]").append(dismissible(problem));
    redraw();
  }
  refreshProgress();
}

function dismissible(problem) {
  const notice = problemNotice(problem);
  notice.append(
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => notice.remove() }, "Dismiss")),
  );
  return notice;
}

// --- fixing and many at once ---------------------------------------------------------------------

function startEditing() {
  if (!current() || state.mode !== "one") return;
  state.editing = true;
  draw();
  $("#edit-preferred").focus();
}

function saved(item) {
  state.editing = false;
  const kept = queue.put(item);
  delete kept.draft;
  done.push({ pair: item.pair, edit: true });
  toast(`Pair ${item.pair} is now version ${item.text_version}; the old text is kept.`);
  refreshProgress();
  if (state.at + 1 < queue.pairs.length) go(state.at + 1);
  else draw();
}

$("[data-bulk]").addEventListener("click", async () => {
  await Promise.allSettled(sending.values());
  // Counted now: the queue may have been decided on since it was loaded.
  const now = await api(`${root}/reviews?${filterQuery()}&limit=1`);
  const batch = await askForBulk({
    root,
    filter: filterBody(),
    total: now.total,
    words: filterWords(),
    reviewer: reviewer(),
  });
  if (!batch) return;
  done.push({ batch: batch.id });
  toast(`${count(batch.pairs)} pairs: ${batch.verdict}. z takes it back.`);
  refreshProgress();
  await reload(queue.pairs[state.at] ?? null);
});

// --- progress ------------------------------------------------------------------------------------

let progress = null;
let sent = 0; // verdicts given so far

async function refreshProgress() {
  try {
    let found;
    let before;
    do {
      before = sent;
      await Promise.allSettled(sending.values());
      found = await api(`${root}/reviews/progress`);
    } while (before !== sent); // a verdict was given meanwhile, which it may not know of
    progress = found;
    drawProgress();
  } catch {
    /* the next time will do */
  }
}

function tally(from, to) {
  if (!progress || from === to) return;
  if (from) progress.verdicts[from] -= 1;
  else progress.reviewed += 1;
  if (to) progress.verdicts[to] += 1;
  else progress.reviewed -= 1;
  drawProgress();
}

function drawProgress() {
  const { pairs, reviewed, verdicts, flagged, flagged_reviewed: flaggedReviewed, disputed, agreement } = progress;
  const names = Object.keys(view.VERDICTS);
  const bar = h(
    "div",
    { class: "verdict-bar", "aria-hidden": "true" },
    names.map((name) => {
      const part = h("i", { class: `v-${name}` });
      part.style.width = `${(100 * verdicts[name]) / Math.max(1, pairs)}%`;
      return part;
    }),
  );
  const both = agreement.reduce((sum, item) => sum + item.pairs, 0);
  const agreed = agreement.reduce((sum, item) => sum + item.agreed, 0);
  const kappas = agreement
    .filter((item) => item.kappa !== null)
    .map((item) => `${item.reviewers.join(" and ")}: κ ${item.kappa.toFixed(2)} on ${item.pairs}`);
  $("[data-progress]").replaceChildren(
    bar,
    h(
      "div",
      { class: "facts-line" },
      h("span", {}, h("strong", {}, count(reviewed)), ` of ${count(pairs)} reviewed`),
      names
        .filter((name) => verdicts[name])
        .map((name) => h("span", { "data-count": name }, view.verdictChip(name), ` ${count(verdicts[name])}`)),
      flagged ? h("span", {}, `⚑ ${count(flaggedReviewed)} of ${count(flagged)} flagged`) : null,
      both ? h("span", { title: kappas.join("; ") }, `reviewers agree on ${count(agreed)} of ${count(both)}`) : null,
      disputed ? h("span", { class: "note-ink" }, `${count(disputed)} disputed`) : null,
    ),
  );
}

// --- wiring --------------------------------------------------------------------------------------

filters.addEventListener("change", (event) => {
  if (event.target.name === "reviewer") return;
  if (event.target.name === "only" && event.target.value === "not_by" && !reviewer()) {
    toast("Write your name first, to see what you have not reviewed.");
    control("reviewer").focus();
  }
  event.target.blur();
  reload();
});
for (const button of filters.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => {
    state.mode = button.dataset.view;
    state.editing = false;
    show();
  });
}
$("[data-help]").addEventListener("click", showHelp);

listen({
  k: () => decide("keep"),
  d: () => decide("drop"),
  u: () => decide("unsure"),
  f: startEditing,
  n: () => $("#note")?.focus(),
  z: undo,
  "?": showHelp,
  h: () => {
    const box = $("[data-history] details");
    if (box) {
      box.open = !box.open;
      box.scrollIntoView({ block: "nearest" });
    }
  },
  l: () => {
    state.mode = state.mode === "list" ? "one" : "list";
    show();
  },
  ArrowRight: () => go(state.at + (state.mode === "list" ? PAGE : 1)),
  ArrowLeft: () => go(state.at - (state.mode === "list" ? PAGE : 1)),
  ArrowDown: () => state.mode === "one" && go(state.at + 1),
  ArrowUp: () => state.mode === "one" && go(state.at - 1),
  Home: () => go(0),
  End: () => go(queue.pairs.length - 1),
});

addEventListener("beforeunload", (event) => {
  if (sending.size) event.preventDefault();
});
setInterval(() => {
  if (!document.hidden) refreshProgress();
}, PROGRESS_MS);

const first = readAddress();
await reload(first);
refreshProgress();
