// A score run's page: distributions, one measure against another, measured displacement, the pairs, and flagging.

import { ScoreCharts } from "../charts/score-charts.js";
import { DisplacementChart } from "../charts/score-displacement.js";
import { API, api, Problem, pageData } from "../lib/api.js";
import { explained, throttle } from "../lib/controls.js";
import { $, $$, problemNotice } from "../lib/dom.js";
import { follow } from "../lib/live.js";
import { measureOf, measures } from "../lib/measures.js";
import { refresh } from "../lib/refresh.js";
import { headOf } from "./_run_head.js";
import { shardsOf } from "./_run_shards.js";
import { Flags } from "./run_score/flags.js";
import { ForecastCard } from "./run_score/forecast.js";
import { ScoreTable } from "./run_score/table.js";

const CHUNK = 1000;
const MOST_POINTS = 5000;
const SOON_MS = 1500;
const PREFLIGHT_PAIRS = 16;

const run = pageData();
const head = headOf(run);
const showShards = shardsOf(run);
const table = new ScoreTable(run);
const asked = new URLSearchParams(location.search);
const isScore = run.kind === "score";
const state = {
  measure: asked.get("measure") ?? (isScore ? "ches" : "preferred_logprob"),
  x: asked.get("x") ?? (isScore ? "normalized_edit_distance" : "preferred_logprob"),
  y: asked.get("y") ?? (isScore ? "ches" : "dispreferred_logprob"),
  summary: null,
  points: [],
  total: 0,
};
let charts = null;
let flags = null;

async function loadNumbers() {
  state.summary = await api(`/runs/${run.id}/scores/summary`);
  state.total = state.summary.total;
  const available = [...measures().keys()].filter((name) => state.summary.measures[name]?.count);
  if (!state.total || !available.length) return;
  for (const name of ["measure", "x", "y"]) if (!available.includes(state[name])) [state[name]] = available;
  state.points = [];
  charts = new ScoreCharts(run, state, {
    threshold: () => flags?.threshold() ?? null,
    onselect: (pairs) => flags?.select(pairs),
  });
  charts.redraw();
  while (state.points.length < Math.min(state.total, MOST_POINTS)) {
    const page = await api(`/runs/${run.id}/scores?sort=pair&limit=${CHUNK}&offset=${state.points.length}`);
    if (!page.items.length) break;
    state.points.push(...page.items);
  }
  charts.redraw();
}

function startFlags() {
  flags ??= new Flags(run, state, {
    onform: () => charts?.distribution.redraw(),
    onchange: (flagged) => {
      for (const point of state.points) point.flagged = flagged.has(point.pair);
      charts?.redraw();
      table.show();
    },
  });
  if (flags.form) flags.drawButton();
  charts?.distribution.redraw();
}

function explainMeasures() {
  for (const cell of $$("[data-measure]:not(:has(.tip))")) {
    const { help, formula } = measureOf(cell.dataset.measure);
    cell.append(" ", explained(help, formula));
  }
}

/** Whether what needs all scores is there; it is started once, or a choice made in it would be lost. */
let isComplete = false;

async function showAll() {
  explainMeasures();
  await Promise.all([table.show(), loadNumbers()]);
  if (run.status !== "succeeded" || isComplete) return;
  isComplete = true;
  startFlags();
  if (isScore) await Promise.all([new ForecastCard(run).start(), new DisplacementChart(run).start()]);
}

/** Open the form of a pre-flight of the pairs at one end of a measure. @param {string} sort */
async function startPreflight(sort) {
  const { items } = await api(`/runs/${run.id}/scores?sort=${sort}&limit=${PREFLIGHT_PAIRS}`);
  const measured = items.filter((item) => item[sort.replace(/^-/, "")] !== null);
  if (!measured.length) throw new Problem({ detail: "No pair of this run has a value of this measure." });
  const pairs = measured.map((item) => item.pair).sort((a, b) => a - b);
  location.assign(`/datasets/${run.dataset_id}/new?kind=preflight&like=${run.id}&pairs=${pairs.join(",")}`);
}

for (const button of $$("[data-preflight]")) {
  button.addEventListener("click", () =>
    startPreflight(button.dataset.preflight).catch((problem) =>
      $("[data-problem]").replaceChildren(problemNotice(problem)),
    ),
  );
}

const showSoon = throttle(() => {
  if (!table.offset) table.show();
}, SOON_MS);

$("[data-csv]").setAttribute("href", `${API}/runs/${run.id}/scores?format=csv&with_text=true`);
showAll().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
if (["queued", "running"].includes(run.status)) {
  let last = run.status;
  follow(run.id, run.revision, {
    status: (now) => {
      head.showProgress(now.progress, now.phase);
      head.hear(now.messages);
      if (now.status !== last) head.refreshHead(["summary"]);
      last = run.status = now.status;
    },
    progress: (now) => {
      head.showProgress(now, now.phase);
      showSoon();
      showShards();
    },
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: async () => {
      head.showConnection(null);
      showShards();
      await head.refreshHead(["summary"]);
      run.status = (await api(`/runs/${run.id}`)).status;
      await refresh(["facts"]);
      await showAll();
    },
  });
}
