// A training run's page, live and afterwards: loads what is there, then follows the stream.

import { AnswersView } from "../charts/answers-view.js";
import { BandsView } from "../charts/bands-view.js";
import { BatchCharts } from "../charts/batch-charts.js";
import { LedgerView } from "../charts/ledger-view.js";
import { Glances, probeTable } from "../charts/probe-list.js";
import { ProbeView } from "../charts/probe-view.js";
import { Answers } from "../lib/answers.js";
import { api, pageData } from "../lib/api.js";
import { remember, throttle } from "../lib/controls.js";
import { Detail, POINTS } from "../lib/detail.js";
import { $, problemNotice, toast } from "../lib/dom.js";
import { onsetOf, ProbeHistory } from "../lib/histories.js";
import { follow } from "../lib/live.js";
import { headOf } from "./_run_head.js";

const LIST_MS = 500;
const VERDICT_MS = 2000;
const AT_ONCE = 4;

const run = pageData();
const at = `/runs/${run.id}`;
const head = headOf(run);
const probes = new Map(); // pair → what /probes says of it
const histories = new Map(); // pair → ProbeHistory, once it was looked at
const details = new Map(); // pair → Detail of that history
const answers = new Map(); // pair → Answers
const waiting = new Map(); // pair → rows that came while its history was being fetched
const glances = new Glances();
let shownPair = null;
let status = run.status;

const isOver = () => !["queued", "running"].includes(status);
const shown = () => histories.get(shownPair);
const ignore = () => {};

const metricDetail = new Detail(
  (query) => api(`${at}/metrics?${query}`),
  (answer) => batches.merge(answer.items),
);
const batches = new BatchCharts(run, (range) => metricDetail.show(range).catch(ignore));
const bands = new BandsView(run.id, (query) => api(`${at}/probes/bands?${query}`));
const probeView = new ProbeView(run, (range) => details.get(shownPair)?.show(range).catch(ignore));
const answersView = new AnswersView($("#answers"), run.id);
const ledger = new LedgerView(
  { ledger: $("#ledger"), flow: $("#chart-flow"), predicted: $("#chart-predicted") },
  run.id,
  askLedger,
);

function askLedger(history, step, place) {
  const where = place ? `&response=${place.response}&position=${place.position}` : "";
  return api(`${at}/probes/${history.probe.pair}/ledger?step=${step}${where}`);
}

// --- the list of probes ----------------------------------------------------------------------

async function loadProbes() {
  const answer = await api(`${at}/probes`);
  for (const probe of answer.items ?? answer) probes.set(probe.pair, named(probe));
  if (!probes.size) return;
  $("[data-probes]").hidden = false;
  drawList();
  const asked = Number(new URLSearchParams(location.search).get("probe") ?? NaN);
  if (shownPair === null)
    await showProbe(
      probes.has(asked) ? asked : ([...probes.keys()].find((pair) => pair >= 0) ?? [...probes.keys()][0]),
    );
  if (probes.size > 1) loadGlances().catch(ignore);
}

/** A prompt without a name goes by what was typed, not by what the chat template made of it. */
function named(probe) {
  const typed = probe.kind === "prompt" ? run.config.probes?.prompts?.[-1 - probe.pair]?.prompt : null;
  const text = Array.isArray(typed) ? typed.at(-1)?.content : typed;
  return probe.name || !text ? probe : { ...probe, name: text };
}

let loading = null;
function loadProbesSoon() {
  loading ??= loadProbes().finally(() => {
    loading = null;
  });
}

/** The first and the last look at each probe, a few requests at a time. */
async function loadGlances() {
  const left = [...probes.values()].filter((probe) => !glances.of(probe.pair).first);
  const next = async () => {
    for (let probe = left.pop(); probe; probe = left.pop()) {
      glances.putSeries(probe.pair, await api(`${at}/probes/${probe.pair}?points=2`), groupNames(probe));
      drawListSoon();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}

const groupNames = (probe) => probe.groups_list?.map((group) => group.name) ?? Object.keys(probe.groups);
const drawListSoon = throttle(drawList, LIST_MS);

function onsets() {
  const found = (run.summary.probes ?? []).map((probe) => [probe.pair, probe.onset_step ?? null]);
  const live = [...histories].map(([pair, { steps, changes }]) => [
    pair,
    onsetOf(steps, changes.preferred, changes.dispreferred),
  ]);
  return new Map([...found, ...live]);
}

function drawList() {
  const host = $("[data-probe-list]");
  if (probes.size < 2) return;
  const pressed = document.activeElement?.closest("[data-probe-list] .pick")?.textContent;
  const options = { shownPair, isOver: isOver(), onsets: onsets(), onchoose: (pair) => showProbe(pair) };
  const scrolled = host.firstChild?.scrollTop ?? 0;
  host.replaceChildren(probeTable([...probes.values()], glances, options));
  host.firstChild.scrollTop = scrolled;
  if (pressed) [...host.querySelectorAll(".pick")].find((one) => one.textContent === pressed)?.focus();
}

// --- the probe that is shown -----------------------------------------------------------------

async function showProbe(pair) {
  shownPair = pair;
  remember({ probe: pair });
  drawList();
  if (!histories.has(pair)) await fetchHistory(pair);
  if (shownPair !== pair) return;
  probeView.show(shown());
  ledger.show(shown());
  answersView.show(pair, answers.get(pair) ?? null);
}

async function fetchHistory(pair) {
  waiting.set(pair, []);
  try {
    const load = (query) => api(`${at}/probes/${pair}?${query}`);
    const [series, said] = await Promise.all([
      load(`points=${POINTS}`),
      api(`${at}/probes/${pair}/answers`).catch(() => ({ items: [] })),
    ]);
    const history = new ProbeHistory(probes.get(pair), series);
    const detail = new Detail(load, (more) => mergeDetail(history, more));
    detail.begin(series);
    glances.putSeries(pair, series, groupNames(probes.get(pair)));
    for (const row of waiting.get(pair)) history.put(row);
    histories.set(pair, history);
    details.set(pair, detail);
    const known = answers.get(pair)?.items ?? [];
    answers.set(pair, new Answers([...said.items, ...known]));
  } finally {
    waiting.delete(pair);
  }
}

function mergeDetail(history, series) {
  const { verdict } = history;
  history.mergeSeries(series);
  // That of a stretch of steps says less than that of the whole run.
  history.verdict = verdict;
  if (history !== shown()) return;
  probeView.redraw();
  ledger.update();
}

// --- history, then live ----------------------------------------------------------------------

function putProbe(row) {
  glances.put(row);
  if (!probes.has(row.pair)) return loadProbesSoon();
  waiting.get(row.pair)?.push(row);
  drawListSoon();
  bands.askSoon();
  const history = histories.get(row.pair);
  if (!history) return;
  const isAppended = history.put(row);
  if (row.pair !== shownPair) return;
  probeView.update(isAppended);
  ledger.update();
  askVerdictSoon();
}

/** The sentence about the shown probe is the server's, and the stream does not bring it. */
const askVerdictSoon = throttle(() => askVerdict().catch(ignore), VERDICT_MS);
async function askVerdict() {
  const history = shown();
  if (!history) return;
  history.verdict = (await api(`${at}/probes/${history.probe.pair}?points=2`)).verdict;
  if (history === shown()) probeView.drawNews();
}

function putAnswer(row) {
  if (!answers.has(row.pair)) answers.set(row.pair, new Answers());
  answers.get(row.pair).put(row);
  if (row.pair === shownPair) answersView.show(row.pair, answers.get(row.pair));
}

function putStatus(now) {
  head.showProgress(now.progress);
  if (now.status !== status) head.refreshHead();
  else head.showVerdict(now.verdict);
  status = now.status;
}

async function start() {
  const answer = await api(`${at}/metrics?points=${POINTS}`);
  metricDetail.begin(answer);
  batches.merge(answer.items);
  bands.start().catch(ignore);
  await loadProbes();
  const known = answer.revision ?? run.revision;
  // Where the server is just away, the stream brings what there is once it is back.
  if (known !== run.revision) await catchUp().catch(ignore);
  // What was written since the numbers were read still comes, even from a run that has ended.
  if (isOver() && run.revision <= known) return;
  follow(run.id, known, {
    status: putStatus,
    progress: (now) => {
      head.showProgress(now);
      head.showVerdict(now.verdict);
    },
    metric: (row) => batches.put(row),
    probe: putProbe,
    answer: putAnswer,
    connection: head.showConnection,
    end: () => {
      head.showConnection(null);
      head.refreshHead();
      finish().catch(ignore);
    },
  });
}

/** The run went on between the page and its first numbers; the stream tells what comes after those. */
async function catchUp() {
  const now = await api(at);
  status = now.status;
  run.summary = now.summary;
  run.revision = now.revision;
  head.showProgress(now.progress);
  head.refreshHead();
  drawList();
}

/** The last ledger and sentence as the server has them. */
async function finish() {
  const over = await api(at);
  status = over.status;
  run.summary = over.summary;
  for (const [pair, history] of histories) {
    history.mergeSeries(await api(`${at}/probes/${pair}?points=${POINTS}`));
  }
  bands.start().catch(ignore);
  drawList();
  if (shown()) {
    probeView.drawNews();
    probeView.redraw();
    ledger.update();
  }
  toast("The run has ended.");
}

start().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
