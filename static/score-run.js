// A score run's page: distributions, one measure against another, the sorted pairs with a
// token-level diff, and flagging.

import { API, api, pageData } from "./api.js";
import { Chart } from "./chart.js";
import { $, h, problemNotice, toast } from "./dom.js";
import { diff, tokensOf } from "./diff.js";
import { distributionFigure, scatterFigure } from "./figures/scores.js";
import { aligned, count, number, percent } from "./format.js";
import { follow } from "./live.js";
import { promptView, side } from "./pair-view.js";
import { headOf } from "./run-head.js";
import { refresh } from "./refresh.js";

const MEASURES = {
  ches: { label: "CHES", why: "High, near or above zero: the two responses look alike to the model, and training on the pair displaces.", formula: "⟨S+, S−⟩ − ⟨S+, S+⟩" },
  ln_ches: { label: "Length-normalised CHES", why: "CHES of the mean instead of the summed hidden embeddings, so that long responses compare with short ones.", formula: "⟨S+, S−⟩/(n+ n−) − ⟨S+, S+⟩/n+²" },
  last_hidden_inner_product: { label: "Last-hidden inner product", why: "The inner product of the hidden embeddings before the last token of each response.", formula: "⟨h(x, y+_<n+), h(x, y−_<n−)⟩" },
  normalized_edit_distance: { label: "Normalised edit distance", why: "Levenshtein distance of the two token sequences over the longer length: 0 is identical, 1 shares nothing.", formula: "lev(y+, y−) / max(n+, n−)" },
  preferred_logprob: { label: "log p(y+)", why: "Log-probability of the preferred response, summed over its tokens, in nats.", formula: "Σ_k log p(y+_k | x, y+_<k)" },
  dispreferred_logprob: { label: "log p(y−)", why: "Log-probability of the dispreferred response, summed over its tokens, in nats.", formula: "Σ_k log p(y−_k | x, y−_<k)" },
};
const LOW_IS_ALIKE = new Set(["normalized_edit_distance"]);
const PAGE = 25;
const SCATTER_PAGE = 1000;
const MOST_POINTS = 5000;

const run = pageData();
const head = headOf(run);
const parameters = new URLSearchParams(location.search);
const state = {
  sort: parameters.get("sort") ?? (run.kind === "score" ? "-ches" : "pair"),
  offset: Number(parameters.get("offset") ?? 0),
  measure: run.kind === "score" ? "ches" : "preferred_logprob",
  x: run.kind === "score" ? "normalized_edit_distance" : "preferred_logprob",
  y: run.kind === "score" ? "ches" : "dispreferred_logprob",
  summary: null,
  points: [],
  total: 0,
};

const available = () => Object.keys(MEASURES).filter((name) => state.summary?.measures[name]?.count);

function measureSelect(label, value, onchange) {
  const select = h("select", { "aria-label": label, onchange: () => onchange(select.value) },
    available().map((name) => h("option", { value: name, selected: name === value }, MEASURES[name].label)));
  return h("span", { class: "inline" }, select);
}

// --- charts ----------------------------------------------------------------------------------

let distribution = null;
let scatter = null;

function threshold() {
  const form = $("[data-flag-form]");
  if (!form || form.hidden || $("[data-flag-measure]").value !== state.measure || !state.points.length || state.points.length < state.total) return null;
  const values = state.points.map((point) => point[state.measure]).filter(Number.isFinite).sort((a, b) => (LOW_IS_ALIKE.has(state.measure) ? a - b : b - a));
  return values[Math.min(values.length, flagCount()) - 1] ?? null;
}

function drawCharts() {
  $("[data-charts]").hidden = false;
  distribution = new Chart($("#chart-distribution"), {
    title: "Distribution", why: "How the chosen measure is spread over the pairs. Flagging takes the pairs whose responses are most alike.", name: `run-${run.id}-distribution`,
    controls: measureSelect("Measure", state.measure, (name) => { state.measure = name; distribution.redraw(); }),
    figure: (colors) => distributionFigure(state.summary.measures[state.measure]?.histogram ?? [], MEASURES[state.measure].label, colors, { threshold: threshold(), isAbove: !LOW_IS_ALIKE.has(state.measure) }),
    describe: () => { const m = state.summary.measures[state.measure]; return m ? `${MEASURES[state.measure].label}: from ${number(m.minimum)} to ${number(m.maximum)}, median ${number(m.quantiles["50"])}.` : ""; },
    note: () => { const m = state.summary.measures[state.measure]; return [`${MEASURES[state.measure].label}: ${MEASURES[state.measure].why}`, m?.nonfinite ? `${count(m.nonfinite)} values are not finite and left out.` : ""].join(" "); },
    csv: () => { const bins = state.summary.measures[state.measure].histogram; return { low: bins.map((b) => b.low), high: bins.map((b) => b.high), pairs: bins.map((b) => b.count) }; },
  });
  scatter = new Chart($("#chart-scatter"), {
    title: "Two measures", why: "Each point is a pair; flagged ones are diamonds.", name: `run-${run.id}-scatter`,
    controls: h("span", { class: "actions" }, measureSelect("Horizontal", state.x, (name) => { state.x = name; scatter.redraw(); }), measureSelect("Vertical", state.y, (name) => { state.y = name; scatter.redraw(); })),
    figure: (colors) => scatterFigure(state.points.map((p) => ({ pair: p.pair, x: p[state.x], y: p[state.y], isFlagged: p.flagged })), MEASURES[state.x].label, MEASURES[state.y].label, colors),
    describe: () => `${MEASURES[state.y].label} against ${MEASURES[state.x].label} of ${count(state.points.length)} pairs.`,
    note: () => (state.points.length < state.total ? `The first ${count(state.points.length)} of ${count(state.total)} pairs.` : ""),
    csv: () => ({ pair: state.points.map((p) => p.pair), [state.x]: state.points.map((p) => p[state.x]), [state.y]: state.points.map((p) => p[state.y]), flagged: state.points.map((p) => String(p.flagged)) }),
  });
  distribution.redraw();
  scatter.redraw();
}

async function loadNumbers() {
  state.summary = await api(`/runs/${run.id}/scores/summary`);
  state.total = state.summary.total;
  if (!state.total) return;
  if (!available().includes(state.measure)) state.measure = available()[0];
  if (!state.measure) return;
  for (const axis of ["x", "y"]) if (!available().includes(state[axis])) state[axis] = available()[0];
  state.points = [];
  drawCharts();
  while (state.points.length < Math.min(state.total, MOST_POINTS)) {
    const page = await api(`/runs/${run.id}/scores?sort=pair&limit=${SCATTER_PAGE}&offset=${state.points.length}`);
    if (!page.items.length) break;
    state.points.push(...page.items);
  }
  distribution.redraw();
  scatter.redraw();
}

// --- the sorted pairs ------------------------------------------------------------------------

const COLUMNS = [
  ["pair", "Pair"], ["ches", "CHES"], ["ln_ches", "CHES, length-norm."], ["last_hidden_inner_product", "Last hidden"], ["normalized_edit_distance", "Edit distance"],
  ["preferred_logprob", "log p(y+), nats"], ["dispreferred_logprob", "log p(y−), nats"],
];
const ON_PHONES = new Set(["pair", run.kind === "score" ? "ches" : "preferred_logprob"]);

async function showScores() {
  const host = $("[data-scores]");
  let page;
  try {
    page = await api(`/runs/${run.id}/scores?sort=${encodeURIComponent(state.sort)}&offset=${state.offset}&limit=${PAGE}&with_text=true`);
  } catch (problem) {
    host.replaceChildren(problemNotice(problem));
    return;
  }
  state.total = page.total;
  if (!page.total) {
    host.replaceChildren(h("p", { class: "quiet" }, ["queued", "running"].includes(run.status) ? "Scores appear as they are computed." : "This run has no scores."));
    return;
  }
  const columns = COLUMNS.filter(([name]) => name === "pair" || page.items.some((item) => item[name] !== null));
  const formats = Object.fromEntries(columns.map(([name]) => [name, name === "pair" ? count : aligned(page.items.map((item) => item[name]))]));
  host.replaceChildren(h("div", { class: "table-wrap" }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([name, label]) => sortable(name, label)), h("th", { class: "num narrow-hide" }, "Tokens y+ / y−"), h("th", {}, "Responses"))),
    h("tbody", {}, page.items.map((item) => scoreRow(item, columns, formats))))));
  const to = state.offset + page.items.length;
  $("[data-pager]").replaceChildren(
    h("span", {}, `${count(state.offset + 1)}–${count(to)} of ${count(page.total)}`),
    h("span", { class: "actions" },
      h("button", { type: "button", disabled: state.offset === 0, onclick: () => move(state.offset - PAGE) }, "Previous"),
      h("button", { type: "button", disabled: to >= page.total, onclick: () => move(state.offset + PAGE) }, "Next")));
}

function sortable(name, label) {
  const isUp = state.sort === name;
  const isDown = state.sort === `-${name}`;
  return h("th", { class: `num${ON_PHONES.has(name) ? "" : " narrow-hide"}`, "aria-sort": isUp ? "ascending" : isDown ? "descending" : null },
    h("button", { type: "button", onclick: () => { state.sort = isDown ? name : `-${name}`; move(0); } }, label, isUp ? " ↑" : isDown ? " ↓" : ""));
}

function move(offset) {
  state.offset = Math.max(0, offset);
  const address = new URL(location);
  address.searchParams.set("sort", state.sort);
  address.searchParams.set("offset", state.offset);
  history.replaceState(null, "", address);
  showScores();
}

function scoreRow(item, columns, formats) {
  const detail = h("tr", { hidden: true }, h("td", { colspan: columns.length + 2 }));
  const open = h("button", { type: "button", class: "icon", "aria-expanded": "false", "aria-label": `Compare the responses of pair ${item.pair}`, onclick: () => {
    detail.hidden = !detail.hidden;
    open.setAttribute("aria-expanded", String(!detail.hidden));
    open.textContent = detail.hidden ? "▸" : "▾";
    if (!detail.hidden) detail.firstChild.replaceChildren(diffView(item));
  } }, "▸");
  const row = h("tr", { class: "expandable" },
    columns.map(([name]) => h("td", { class: `num${ON_PHONES.has(name) ? "" : " narrow-hide"}` }, formats[name](item[name]))),
    h("td", { class: "num narrow-hide quiet" }, `${count(item.preferred_tokens)} / ${count(item.dispreferred_tokens)}`),
    h("td", {}, h("div", { style: "display: flex; gap: 6px; align-items: flex-start" }, open, h("div", { class: "small", style: "min-width: 0" },
      item.flagged ? h("span", { class: "tag flagged" }, "⚑ flagged") : null,
      h("div", { class: "clip one" }, h("span", { class: "preferred-ink" }, "y+ "), item.preferred),
      h("div", { class: "clip one" }, h("span", { class: "dispreferred-ink" }, "y− "), item.dispreferred)))));
  row.addEventListener("click", (event) => { if (!event.target.closest("button, a") && !getSelection().toString()) open.click(); });
  return [row, detail];
}

function diffView(item) {
  const preferred = tokensOf(item.preferred, item.preferred_ends);
  const dispreferred = tokensOf(item.dispreferred, item.dispreferred_ends);
  const shared = diff(preferred, dispreferred);
  const marked = (tokens, isShared) => h("div", { class: "diff", tabindex: "0" }, tokens.map((token, k) =>
    h("span", { class: `${isShared[k] ? "same" : "only"}${k === shared.fork ? " fork" : ""}`, title: k === shared.fork ? "the fork" : null }, token)));
  const alike = shared.a.filter(Boolean).length;
  return h("div", { class: "pair", style: "padding: 4px 0 10px" },
    h("div", { class: "pair-head" }, `${alike} of ${preferred.length} preferred and ${dispreferred.length} dispreferred tokens are shared; the fork is at token ${shared.fork + 1}.`, h("a", { href: `/datasets/${run.dataset_id}?pair=${item.pair}` }, "Open in the dataset")),
    promptView(item.prompt),
    h("div", { class: "sides" }, side("preferred", marked(preferred, shared.a)), side("dispreferred", marked(dispreferred, shared.b))));
}

// --- flagging --------------------------------------------------------------------------------

const flagForm = $("[data-flag-form]");

function flagCount() {
  const part = Number($("[data-flag-percent]").value) / 100;
  const scored = state.summary?.measures[$("[data-flag-measure]").value]?.count ?? 0;
  return Math.ceil(Math.round(part * scored * 1e6) / 1e6);
}

function showFlagForm() {
  if (!flagForm) return;
  flagForm.hidden = false;
  const update = () => {
    $("[data-flag]").textContent = `Flag ${count(flagCount())} pair${flagCount() === 1 ? "" : "s"}`;
    distribution?.redraw();
  };
  flagForm.addEventListener("input", update);
  flagForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("[data-flag]");
    button.disabled = true;
    try {
      const queue = await api(`/datasets/${run.dataset_id}/flags`, { method: "POST", body: { score_run: run.id, measure: $("[data-flag-measure]").value, top_fraction: Number($("[data-flag-percent]").value) / 100 } });
      const flagged = new Set(queue.items.map((flag) => flag.pair));
      for (const point of state.points) point.flagged = flagged.has(point.pair);
      toast(`${count(queue.flagged)} of ${count(state.total)} pairs (${percent(queue.flagged / state.total, 1)}) are flagged for review.`);
      scatter?.redraw();
      await showScores();
    } catch (problem) {
      $("[data-problem]").replaceChildren(problemNotice(problem));
    }
    button.disabled = false;
  });
  update();
}

// --- history, then live ----------------------------------------------------------------------

$("[data-csv]").setAttribute("href", `${API}/runs/${run.id}/scores?format=csv&with_text=true`);

async function showAll() {
  await Promise.all([showScores(), loadNumbers()]);
  if (run.status === "succeeded") showFlagForm();
}

let next = 0;
function showSoon() {
  next ||= setTimeout(() => { next = 0; if (!state.offset) showScores(); }, 1500);
}

showAll().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
if (["queued", "running"].includes(run.status)) {
  let last = run.status;
  follow(run.id, run.revision, {
    status: (now) => { head.showProgress(now.progress); if (now.status !== last) head.refreshHead(["summary"]); last = run.status = now.status; },
    progress: (now) => { head.showProgress(now); showSoon(); },
    connection: head.showConnection,
    end: async () => {
      head.showConnection(true);
      await head.refreshHead(["summary"]);
      run.status = (await api(`/runs/${run.id}`)).status;
      await refresh(["facts"]);
      await showAll();
    },
  });
}
