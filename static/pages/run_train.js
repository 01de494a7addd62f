// A training run's page: loads what was recorded, then follows the event stream while the run is active.

import { AnswersView } from "../charts/answers-view.js";
import { BandsView } from "../charts/bands-view.js";
import { BatchCharts } from "../charts/batch-charts.js";
import { ForecastCheck } from "../charts/forecast-check.js";
import { LedgerView } from "../charts/ledger-view.js";
import { probeTable } from "../charts/probe-list.js";
import { ProbeView } from "../charts/probe-view.js";
import { Answers } from "../lib/answers.js";
import { api, pageData } from "../lib/api.js";
import { setQueryParameters, throttle } from "../lib/controls.js";
import { Detail, POINTS } from "../lib/detail.js";
import { displacementOnset } from "../lib/displaced.js";
import { $, problemNotice, toast } from "../lib/dom.js";
import { follow } from "../lib/live.js";
import { ProbeHistory } from "../lib/probe-history.js";
import { ProbeSnapshots } from "../lib/probe-snapshots.js";
import { headOf } from "./_run_head.js";
import { seatsOf } from "./_run_seats.js";
import { shardsOf } from "./_run_shards.js";
import { FilterList } from "./run_train/filter.js";

const LIST_MS = 500;
const HEADLINE_MS = 2000;
const KINDS_MS = 4000;
const FILTER_MS = 4000;
const AT_ONCE = 4;
const REFERENCE_PASS = "reference pass";

const run = pageData();
const at = `/runs/${run.id}`;
const head = headOf(run);
const probes = new Map(); // pair → Probe, as /probes returns it
const histories = new Map(); // pair → ProbeHistory, once it was shown
const details = new Map(); // pair → Detail of that history
const answers = new Map(); // pair → Answers
const waiting = new Map(); // pair → rows that arrived while its history was loading
const snapshots = new ProbeSnapshots();
let shownPair = null;
let status = run.status;

const isOver = () => !["queued", "running", "lost"].includes(status);
const shown = () => histories.get(shownPair);
const ignore = () => {};
const forecast = run.kind === "train" ? new ForecastCheck(run) : null;
const filter = run.kind === "train" && run.config.refresh_filter ? new FilterList(run.id, isOver) : null;
const showShards = run.kind === "train" ? shardsOf(run, { untilDone: true }) : ignore;
const showSeats = run.kind === "train" ? seatsOf(run) : ignore;
const showFilterSoon = throttle(() => filter?.show(), FILTER_MS);

const metricDetail = new Detail(
  (query) => api(`${at}/metrics?${query}${batches.query}`),
  (answer) => batches.merge(answer.items),
);
const batches = new BatchCharts(
  run,
  (range) => metricDetail.show(range).catch(ignore),
  () => loadMetrics().catch(ignore),
);
const bands = new BandsView(run.id, (query) => api(`${at}/probes/bands?${query}`));
const probeView = new ProbeView(run, (range) => details.get(shownPair)?.show(range).catch(ignore));
const answersView = new AnswersView($("#answers"), run.id);
const ledger = new LedgerView(
  { ledger: $("#ledger"), flow: $("#chart-flow"), predicted: $("#chart-predicted") },
  run.id,
  loadLedger,
);

function loadLedger(history, step, place) {
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
  const known = [...probes.keys()];
  const first = [asked, run.verdict_pair].find((pair) => probes.has(pair));
  const initial = first ?? known.find((pair) => pair >= 0) ?? known[0];
  if (shownPair === null) await showProbe(initial);
  if (probes.size > 1) loadSnapshots().catch(ignore);
}

/** A prompt without a name is labeled by the text that was typed, not by its rendered chat template. */
function named(probe) {
  const typed = probe.kind === "prompt" ? run.config.probes?.prompts?.[-1 - probe.pair]?.prompt : null;
  const text = Array.isArray(typed) ? typed.at(-1)?.content : typed;
  return probe.name || !text ? probe : { ...probe, name: text };
}

/** How bad each probe's displacement is, which is not part of the event stream. */
async function loadKinds() {
  const answer = await api(`${at}/probes`);
  for (const probe of answer.items ?? answer) probes.set(probe.pair, named(probe));
  drawList();
}
const loadKindsSoon = throttle(() => loadKinds().catch(ignore), KINDS_MS);

let isLoadingProbes = false;
async function loadProbesOnce() {
  if (isLoadingProbes) return;
  isLoadingProbes = true;
  await loadProbes().finally(() => {
    isLoadingProbes = false;
  });
}

/** The first and the last recorded step of each probe, a few requests at a time. */
async function loadSnapshots() {
  const left = [...probes.values()].filter((probe) => !snapshots.has(probe.pair));
  const next = async () => {
    for (let probe = left.pop(); probe; probe = left.pop()) {
      snapshots.putSeries(probe.pair, await api(`${at}/probes/${probe.pair}?points=2`), groupNames(probe));
      drawListSoon();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}

const groupNames = (probe) => probe.groups_list?.map((group) => group.name) ?? Object.keys(probe.groups);
const drawListSoon = throttle(drawList, LIST_MS);

function onsets() {
  // A trainer elsewhere may call anything its summary.
  const summarized = Array.isArray(run.summary.probes) ? run.summary.probes : [];
  const found = summarized.map((probe) => [probe.pair, probe.onset_step ?? null]);
  const live = [...histories].map(([pair, { steps, changes }]) => [
    pair,
    displacementOnset(steps, changes.preferred, changes.dispreferred),
  ]);
  return new Map([...found, ...live]);
}

function drawList() {
  const host = $("[data-probe-list]");
  if (probes.size < 2) return;
  const pressed = document.activeElement?.closest("[data-probe-list] .pick")?.textContent;
  const options = { shownPair, isOver: isOver(), onsets: onsets(), onchoose: (pair) => showProbe(pair) };
  const scrolled = host.firstChild?.scrollTop ?? 0;
  host.replaceChildren(probeTable([...probes.values()], snapshots, options));
  host.firstChild.scrollTop = scrolled;
  if (pressed) [...host.querySelectorAll(".pick")].find((one) => one.textContent === pressed)?.focus();
}

// --- the probe that is shown -----------------------------------------------------------------

async function showProbe(pair) {
  shownPair = pair;
  setQueryParameters({ probe: pair });
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
    snapshots.putSeries(pair, series, groupNames(probes.get(pair)));
    for (const row of waiting.get(pair)) history.putRow(row);
    histories.set(pair, history);
    details.set(pair, detail);
    const known = answers.get(pair)?.items ?? [];
    answers.set(pair, new Answers([...said.items, ...known]));
  } finally {
    waiting.delete(pair);
  }
}

function mergeDetail(history, series) {
  const { verdict, verdictShort, displacement, destinationOnsets } = history;
  history.mergeSeries(series);
  // What a range of steps says is less than what the whole run does.
  Object.assign(history, { verdict, verdictShort, displacement, destinationOnsets });
  if (history !== shown()) return;
  probeView.redraw();
  ledger.update();
}

// --- history, then live ----------------------------------------------------------------------

function putProbe(row) {
  snapshots.put(row);
  if (!probes.has(row.pair)) return loadProbesOnce().catch(ignore);
  waiting.get(row.pair)?.push(row);
  drawListSoon();
  if (probes.size > 1) loadKindsSoon();
  bands.updateSoon();
  const history = histories.get(row.pair);
  if (!history) return;
  const isAppended = history.putRow(row);
  if (row.pair !== shownPair) return;
  probeView.update(isAppended);
  ledger.update();
  loadHeadlineSoon();
}

/** The headline of the shown probe comes from the server and is not part of the event stream. */
const loadHeadlineSoon = throttle(() => loadHeadline().catch(ignore), HEADLINE_MS);
async function loadHeadline() {
  const history = shown();
  if (!history) return;
  const now = await api(`${at}/probes/${history.probe.pair}?points=2`);
  const { verdict, verdict_short: verdictShort, displacement, destination_onsets: destinationOnsets } = now;
  Object.assign(history, { verdict, verdictShort, displacement, destinationOnsets });
  if (history === shown()) probeView.drawHeadline();
}

function putAnswer(row) {
  if (!answers.has(row.pair)) answers.set(row.pair, new Answers());
  answers.get(row.pair).put(row);
  if (row.pair === shownPair) answersView.show(row.pair, answers.get(row.pair));
}

/** The training was resumed from a checkpoint: what came after its step is cut off. */
function cut({ step }) {
  batches.cut(step);
  for (const history of [...histories.values(), ...answers.values()]) history.cut(step);
  for (const [pair, rows] of waiting)
    waiting.set(
      pair,
      rows.filter((row) => row.step <= step),
    );
  snapshots.cut(step);
  run.summary = {};
  bands.start().catch(ignore);
  drawList();
  if (probes.size > 1) loadSnapshots().catch(ignore);
  if (!shown()) return;
  probeView.show(shown());
  ledger.show(shown());
  answersView.show(shownPair, answers.get(shownPair) ?? null);
}

let entered = run.phase?.name;
/** Who trains; and who computes the reference, while that goes on and once more as it ends. */
function showWorkers(phase) {
  const left = entered;
  entered = phase?.name;
  if (left !== entered) showSeats();
  if (left === REFERENCE_PASS || entered === REFERENCE_PASS) showShards();
}

function putStatus(now) {
  head.showProgress(now.progress, now.phase);
  showWorkers(now.phase);
  if (now.status !== status || now.messages.length !== run.messages.length) head.refreshHead();
  else showVerdict(now);
  status = now.status;
  run.messages = now.messages;
}

/** @param {any} now the run, or what of it is news */
function showVerdict(now) {
  head.showVerdict(now);
  if (now.verdict_pair === run.verdict_pair) return;
  run.verdict_pair = now.verdict_pair;
  if (shown()) probeView.drawHeadline();
}

/** The numbers of the whole run, unless all of them are known. */
async function loadMetrics() {
  if (batches.metrics.steps.length && !metricDetail.isDownsampled) return null;
  const answer = await metricDetail.load(`points=${POINTS}`);
  metricDetail.begin(answer);
  batches.merge(answer.items);
  return answer;
}

async function start() {
  showVerdict(run);
  const answer = await loadMetrics();
  bands.start().catch(ignore);
  filter?.show();
  await loadProbes();
  const known = answer.revision ?? run.revision;
  // If this fails, the stream brings the rest once the server answers again.
  if (known !== run.revision) await catchUp().catch(ignore);
  if (isOver()) forecast?.start().catch(ignore);
  // Events recorded since the numbers were read are still delivered, even of a run that has ended.
  if (isOver() && run.revision <= known) return;
  follow(run.id, known, {
    status: putStatus,
    progress: (now) => {
      head.showProgress(now, now.phase);
      showWorkers(now.phase);
      showVerdict(now);
      showFilterSoon();
    },
    rewound: cut,
    metric: (row) => batches.put(row),
    probe: putProbe,
    answer: putAnswer,
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: () => {
      head.showConnection(null);
      head.refreshHead();
      finish().catch(ignore);
    },
  });
}

/** The run advanced between the page and its first numbers; the stream carries what comes after those. */
async function catchUp() {
  const now = await api(at);
  status = now.status;
  run.summary = now.summary;
  run.messages = now.messages;
  run.revision = now.revision;
  showVerdict(now);
  head.showProgress(now.progress, now.phase);
  showWorkers(now.phase);
  head.refreshHead();
  drawList();
}

/** Load the final ledgers and sentences. */
async function finish() {
  const over = await api(at);
  status = over.status;
  run.summary = over.summary;
  showVerdict(over);
  await loadKinds();
  for (const [pair, history] of histories) {
    history.mergeSeries(await api(`${at}/probes/${pair}?points=${POINTS}`));
  }
  bands.start().catch(ignore);
  forecast?.start().catch(ignore);
  filter?.show();
  drawList();
  if (shown()) {
    probeView.drawHeadline();
    probeView.redraw();
    ledger.update();
  }
  toast("The run has ended.");
}

start().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
