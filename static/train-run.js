// A training run's page, live and afterwards.

import { api, pageData } from "./api.js";
import { Chart, segmented } from "./chart.js";
import { $, $$, h, problemNotice, toast } from "./dom.js";
import { batchFigure, changeFigure, forkFigure, phaseFigure } from "./figures/curves.js";
import { heatChanges, heatFigure, heatHeight, largestChange } from "./figures/heat.js";
import { clip, probability, signed, visible } from "./format.js";
import { MetricHistory, ProbeHistory } from "./histories.js";
import { LedgerView } from "./ledger-view.js";
import { follow } from "./live.js";
import { side, text } from "./pair-view.js";
import { headOf } from "./run-head.js";
import { tokenView } from "./token-view.js";

const METRICS = ["loss", "margin", "preferred_logprob", "dispreferred_logprob", "preferred_change", "dispreferred_change", "displaced_fraction", "accuracy", "grad_norm", "learning_rate", "tokens_per_second", "tokens_seen"];
const HEAT_MS = 1000;
const SMALL_PROBABILITY = 0.1;

const run = pageData();
const head = headOf(run);
const isPreference = run.config.objective !== "cross_entropy";
const metrics = new MetricHistory(METRICS);
const probes = new Map(); // pair → what /probes says of it
const histories = new Map(); // pair → ProbeHistory, once it was looked at
const waiting = new Map(); // pair → rows that came while its history was being fetched
let shownPair = null;
let weight = 0.8;
let isLog = false;

// --- batches ---------------------------------------------------------------------------------

const column = (name) => metrics.columns[name];
const latest = (name, format = signed) => {
  const values = column(name);
  return values.length ? format(values.at(-1)) : "–";
};

function batchChart(id, { title, why, formula, lines, unit, y, format, empty }) {
  return new Chart($(id), {
    title, why, formula, empty,
    name: `run-${run.id}-${id.slice(7)}`,
    figure: (colors) => batchFigure(metrics.steps, lines.filter(([name]) => column(name).some((v) => v !== null)).map(([name, label, color]) => ({ name: label, values: column(name), color })), colors, { weight, unit, y, format }),
    describe: () => `${lines.map(([name, label]) => `${label}: now ${latest(name)}`).join(", ")}, ${metrics.steps.length} steps.`,
    note: () => {
      const missing = metrics.steps.filter((step) => metrics.notFinite.has(step)).length;
      return missing ? `${missing} step${missing === 1 ? "" : "s"} with numbers that are not finite: shown as gaps.` : "";
    },
    csv: () => Object.fromEntries([["step", metrics.steps], ...lines.map(([name]) => [name, column(name)])]),
  });
}

const zeroLine = { zeroline: true, zerolinewidth: 1 };
const batchCharts = [
  batchChart("#chart-margin", { title: "Margin", why: "How much more the preferred response gained than the dispreferred one, mean over each batch's pairs.", formula: "m = Δ log p(y+) − Δ log p(y−)", lines: [["margin", "margin", "ink"]], unit: "nats", y: zeroLine, empty: isPreference ? undefined : "Cross-entropy has no margin." }),
  batchChart("#chart-batch-change", { title: "Change of log p, batch", why: "Change against the reference, mean over each batch's pairs. Batches hold different pairs: trust the probes more.", formula: "Δ log p(y) = log p(y) − log p_ref(y)", lines: [["preferred_change", "preferred y+", "preferred"], ["dispreferred_change", "dispreferred y−", "dispreferred"]], unit: "nats", y: zeroLine }),
  batchChart("#chart-loss", { title: "Loss", why: "The objective, mean over each batch's pairs. A falling loss says nothing about where the probability goes.", formula: run.config.objective, lines: [["loss", "loss", "ink"]], unit: "loss" }),
  batchChart("#chart-displaced", { title: "Displaced fraction", why: "The share of a batch's pairs whose preferred response lost likelihood while the margin grew; and the share with a positive margin.", formula: "displaced: Δ log p(y+) < 0 < m", lines: [["displaced_fraction", "displaced", "dispreferred"], ["accuracy", "margin > 0", "ink"]], unit: "fraction", y: { range: [-0.03, 1.03] }, empty: isPreference ? undefined : "Cross-entropy has no margin, so nothing counts as displaced." }),
  new Chart($("#chart-phase"), {
    title: "Likelihood against margin", why: "Each point is a step. Below the line and to the right of it, the margin is bought by losing the preferred response.", formula: "x: m,  y: Δ log p(y+)", name: `run-${run.id}-phase`,
    empty: isPreference ? undefined : "Cross-entropy has no margin.",
    figure: (colors) => { const rows = column("margin").some((v) => v !== null); return phaseFigure(rows ? metrics.steps : [], rows ? column("margin") : [], rows ? column("preferred_change") : [], colors); },
    note: () => (isPreference ? "Lower right: displaced." : ""),
    describe: () => `Now: margin ${latest("margin")} nats, change of y+ ${latest("preferred_change")} nats.`,
    csv: () => ({ step: metrics.steps, margin: column("margin"), preferred_change: column("preferred_change") }),
  }),
  batchChart("#chart-grad", { title: "Gradient norm", why: "The Euclidean norm of the gradient before the optimiser's step.", formula: "‖∇ loss‖₂", lines: [["grad_norm", "gradient norm", "ink"]], unit: "norm" }),
];

$("[data-smoothing]").addEventListener("input", (event) => {
  weight = Number(event.target.value);
  for (const chart of batchCharts) chart.redraw();
});

// --- probes ----------------------------------------------------------------------------------

const shown = () => histories.get(shownPair);
const NOTHING = { steps: [], preferred: [], dispreferred: [] };

const scale = segmented("Scale", [["linear", "Linear"], ["log", "Log"]], "linear", (choice) => { isLog = choice === "log"; wasScaleChosen = true; forkChart.redraw(); });
let wasScaleChosen = false;

/** Small probabilities can only be seen on a logarithmic scale, beside "all other". */
function chooseScale(history) {
  if (wasScaleChosen || !history.steps.length) return;
  isLog = Math.max(history.preferredProb[0], history.dispreferredProb[0]) < SMALL_PROBABILITY;
  scale.choose(isLog ? "log" : "linear");
}

const forkChart = new Chart($("#chart-fork"), {
  title: "At the fork",
  why: "The fork is the first position where the two responses differ. There one distribution holds both next tokens; what neither keeps goes to other tokens.",
  formula: "p(token | prompt, common beginning)",
  name: `run-${run.id}-fork`,
  controls: scale,
  figure: (colors) => forkFigure(forkNumbers(), colors, { log: isLog }),
  describe: () => { const h = shown(); return h && h.steps.length ? `Preferred from ${probability(h.preferredProb[0])} to ${probability(h.preferredProb.at(-1))}, dispreferred from ${probability(h.dispreferredProb[0])} to ${probability(h.dispreferredProb.at(-1))}, all other from ${probability(h.otherProb[0])} to ${probability(h.otherProb.at(-1))}.` : ""; },
  csv: () => { const h = shown(); return { step: h.steps, preferred_prob: h.preferredProb, dispreferred_prob: h.dispreferredProb, other_prob: h.otherProb, ...Object.fromEntries(h.groups.map((g) => [`group ${g.name}`, g.probs])) }; },
});

function forkNumbers() {
  const history = shown();
  if (!history) return { ...NOTHING, other: [], groups: [], preferredToken: "", dispreferredToken: "" };
  const name = (token) => `“${clip(visible(token), 14).replaceAll("&", "&amp;").replaceAll("<", "&lt;")}”`;
  return {
    steps: history.steps, preferred: history.preferredProb, dispreferred: history.dispreferredProb, other: history.otherProb,
    groups: history.groups.map((group) => ({ name: group.name.replaceAll("&", "&amp;").replaceAll("<", "&lt;"), probs: group.probs })),
    preferredToken: name(history.preferredToken), dispreferredToken: name(history.dispreferredToken),
  };
}

const changeChart = new Chart($("#chart-change"), {
  title: "Change of log-probability",
  why: "The whole response, end token included, against step 0. Both falling while their distance grows is likelihood displacement.",
  formula: "Δ log p(y) = Σ_k Δ log p(y_k | x, y_<k)",
  name: `run-${run.id}-change`,
  figure: (colors) => { const h = shown(); return changeFigure(h ? { steps: h.steps, ...h.changes } : NOTHING, colors); },
  describe: () => { const c = shown()?.changes; return c?.preferred.length ? `Preferred ${signed(c.preferred.at(-1))} nats, dispreferred ${signed(c.dispreferred.at(-1))} nats.` : ""; },
  csv: () => ({ step: shown().steps, preferred_change: shown().changes.preferred, dispreferred_change: shown().changes.dispreferred }),
});

function heatChart(id, kind, title) {
  const numbers = () => {
    const history = shown();
    if (!history || history.steps.length < 2) return { steps: [], tokens: [], logprobs: [] };
    const { preferred_tokens, dispreferred_tokens } = history.probe;
    const limit = Math.max(largestChange(heatChanges(history.preferredLogprobs, preferred_tokens)), largestChange(heatChanges(history.dispreferredLogprobs, dispreferred_tokens)));
    return { steps: history.steps, limit, ...(kind === "preferred" ? { tokens: preferred_tokens, logprobs: history.preferredLogprobs } : { tokens: dispreferred_tokens, logprobs: history.dispreferredLogprobs }) };
  };
  return new Chart($(id), {
    title, name: `run-${run.id}-tokens-${kind}`,
    why: "Change of each token's log-probability since step 0, given the prompt and the tokens before it. Blue gained, orange lost; both maps share one scale.",
    formula: "Δ log p(y_k | x, y_<k)",
    // The two maps stand side by side and are as high as the longer one needs.
    height: () => { const p = shown()?.probe; return heatHeight(p ? Math.max(p.preferred_tokens.length, p.dispreferred_tokens.length) : 0); },
    figure: (colors) => heatFigure(numbers(), colors),
    describe: () => { const n = numbers(); return n.steps.length ? heatChanges(n.logprobs, n.tokens).map((row, k) => `${n.tokens[k]}: ${signed(row.at(-1))}`).slice(0, 20).join(", ") : ""; },
    csv: () => { const n = numbers(); return Object.fromEntries([["step", n.steps], ...n.tokens.map((token, k) => [`${k + 1} ${token}`, n.logprobs.map((row) => row[k])])]); },
  });
}

const heatCharts = [heatChart("#chart-heat-preferred", "preferred", "Tokens of the preferred response"), heatChart("#chart-heat-dispreferred", "dispreferred", "Tokens of the dispreferred response")];
const ledger = new LedgerView($("#ledger"), $("#chart-flow"), run.id, async (history, step) => {
  const answer = await api(`/runs/${run.id}/probes/${history.probe.pair}/ledger?step=${step}`);
  history.ledgers.set(step, { gainers: answer.gainers, losers: answer.losers, rest: answer.rest_change });
});

const throttledHeat = throttle(() => heatCharts.forEach((chart) => chart.append()), HEAT_MS);

function throttle(action, every) {
  let timer = 0;
  return () => { timer ||= setTimeout(() => { timer = 0; action(); }, every); };
}

async function loadProbes() {
  const answer = await api(`/runs/${run.id}/probes`);
  for (const probe of answer.items ?? answer) probes.set(probe.pair, probe);
  if (!probes.size) return;
  $("[data-probes]").hidden = false;
  const asked = Number(new URLSearchParams(location.search).get("probe") ?? NaN);
  if (shownPair === null) await showProbe(probes.has(asked) ? asked : [...probes.keys()][0]);
}

function drawTabs() {
  const tabs = $("[data-probe-tabs]");
  const pairs = [...probes.values()];
  if (pairs.length > 8) {
    tabs.removeAttribute("role");
    tabs.replaceChildren(h("label", { class: "inline" }, "Pair ", h("select", { onchange: (event) => showProbe(Number(event.target.value)) }, pairs.map((probe) => h("option", { value: probe.pair, selected: probe.pair === shownPair }, tabLabel(probe))))));
    return;
  }
  tabs.replaceChildren(...pairs.map((probe) => h("button", {
    type: "button", role: "tab", "aria-selected": String(probe.pair === shownPair), tabindex: probe.pair === shownPair ? "0" : "-1",
    onclick: () => showProbe(probe.pair),
    onkeydown: (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!move) return;
      const keys = pairs.map((one) => one.pair);
      showProbe(keys[(keys.indexOf(probe.pair) + move + keys.length) % keys.length]).then(() => $('[aria-selected="true"]', tabs)?.focus());
    },
  }, h("span", {}, tabLabel(probe)))));
}

function tabLabel(probe) {
  const at = probe.fork_position;
  const token = (tokens) => clip(visible(tokens[Math.min(at, tokens.length - 1)] ?? ""), 12);
  return `${probe.pair}: ${token(probe.preferred_tokens)} › ${token(probe.dispreferred_tokens)}`;
}

async function showProbe(pair) {
  shownPair = pair;
  drawTabs();
  const address = new URL(location);
  address.searchParams.set("probe", pair);
  history.replaceState(null, "", address);
  if (!histories.has(pair)) await fetchHistory(pair);
  if (shownPair !== pair) return;
  drawAbout();
  chooseScale(shown());
  ledger.show(shown());
  for (const chart of [forkChart, changeChart, ...heatCharts]) chart.redraw();
}

async function fetchHistory(pair) {
  waiting.set(pair, []);
  try {
    const history = new ProbeHistory(probes.get(pair), await api(`/runs/${run.id}/probes/${pair}`));
    for (const row of waiting.get(pair)) history.put(row);
    histories.set(pair, history);
  } finally {
    waiting.delete(pair);
  }
}

function drawAbout() {
  const { probe, verdict } = shown();
  const response = (tokens) => h("div", { class: "text" }, tokens.map((token, k) => {
    const view = tokenView(token);
    if (k === probe.fork_position) view.style.outline = "1.5px solid currentcolor";
    return [view, " "];
  }));
  $("[data-probe-about]").replaceChildren(h("div", { class: "pair", style: "padding: 0; border: 0" },
    verdict && probes.size > 1 ? h("p", {}, verdict) : null,
    h("details", {}, h("summary", { class: "small" }, `Pair ${probe.pair}: the prompt as the model reads it`), h("div", { class: "small quiet", style: "margin-top: 6px" }, text(probe.prompt))),
    h("div", { class: "sides" }, side("preferred", response(probe.preferred_tokens)), side("dispreferred", response(probe.dispreferred_tokens)))));
}

// --- history, then live ----------------------------------------------------------------------



function putMetric(row) {
  const isAppended = metrics.put(row);
  for (const chart of batchCharts) isAppended ? chart.append() : chart.redraw();
}

function putProbe(row) {
  if (!probes.has(row.pair)) return loadProbesSoon();
  waiting.get(row.pair)?.push(row);
  const history = histories.get(row.pair);
  if (!history) return;
  const isAppended = history.put(row);
  if (row.pair !== shownPair) return;
  for (const chart of [forkChart, changeChart]) isAppended ? chart.append() : chart.redraw();
  ledger.update();
  throttledHeat();
}

let loading = null;
function loadProbesSoon() {
  loading ??= loadProbes().finally(() => { loading = null; });
}

let lastStatus = run.status;
function putStatus(now) {
  head.showProgress(now.progress);
  if (now.status !== lastStatus) head.refreshHead();
  else head.showVerdict(now.verdict);
  lastStatus = now.status;
}

async function start() {
  const answer = await api(`/runs/${run.id}/metrics`);
  for (const row of answer.items) metrics.put(row);
  for (const chart of batchCharts) chart.redraw();
  await loadProbes();
  if (["queued", "running"].includes(run.status)) {
    follow(run.id, answer.revision ?? run.revision, {
      status: putStatus, progress: (now) => { head.showProgress(now); head.showVerdict(now.verdict); }, metric: putMetric, probe: putProbe, connection: head.showConnection,
      end: () => { head.showConnection(true); head.refreshHead(); finish(); },
    });
  }
}

/** The last ledger and sentence as the server has them. */
async function finish() {
  for (const [pair, history] of histories) {
    const series = await api(`/runs/${run.id}/probes/${pair}`);
    history.verdict = series.verdict;
    if (series.steps.length === history.steps.length) history.putLedger(series);
  }
  if (shown()) { drawAbout(); ledger.update(); heatCharts.forEach((chart) => chart.redraw()); }
  toast("The run has ended.");
}

start().catch((problem) => $("[data-problem]").replaceChildren(problemNotice(problem)));
