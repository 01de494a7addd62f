// Training runs over each other: one number of each, over steps or tokens; and where they ended.

import { Chart } from "../charts/chart.js";
import { paintKeys, runKey } from "../charts/run-key.js";
import { insertBands } from "../figures/bands.js";
import { compareFigure } from "../figures/compare.js";
import { plainText } from "../figures/frame.js";
import { api, pageData } from "../lib/api.js";
import { choice, explained, remember } from "../lib/controls.js";
import { Detail, POINTS } from "../lib/detail.js";
import { differences } from "../lib/differences.js";
import { $, $$, h, problemNotice, saveFile, toCsv } from "../lib/dom.js";
import { clip, number, percent, probability, probabilityChange, signed } from "../lib/format.js";
import { MetricHistory } from "../lib/histories.js";
import { tokenView } from "../lib/token-view.js";

const BATCH = {
  preferred_change: "change of log p(y+), batch, nats",
  dispreferred_change: "change of log p(y−), batch, nats",
  margin: "margin, batch, nats",
  displaced_fraction: "displaced fraction, batch",
  loss: "loss",
  accuracy: "fraction with margin > 0",
  grad_norm: "gradient norm",
};
// Medians over the watched pairs: the same pairs at every step.
const PROBES = {
  "probes.preferred_change": "change of log p(y+), median of the probes, nats",
  "probes.dispreferred_change": "change of log p(y−), median of the probes, nats",
  "probes.margin": "margin, median of the probes, nats",
  "probes.displaced_fraction": "displaced fraction of the probes",
};
const NUMBERS = { ...BATCH, ...PROBES };
const FORMULAS = {
  preferred_change: "Δ log p(y+) = log p(y+) − log p_ref(y+)",
  dispreferred_change: "Δ log p(y−) = log p(y−) − log p_ref(y−)",
  margin: "m = Δ log p(y+) − Δ log p(y−)",
  displaced_fraction: "displaced: Δ log p(y+) < 0 < m",
  grad_norm: "‖∇ loss‖₂",
};
const AXES = { step: "by step", tokens_seen: "by tokens seen" };
const TOP_GAINERS = 3;
const LONGEST_SETTING = 60;

const choose = $("[data-choose]");
choose?.addEventListener("submit", (event) => {
  event.preventDefault();
  const ids = $$("input:checked", choose).map((box) => box.value);
  location.assign(ids.length ? `/compare?runs=${ids.join(",")}` : "/compare");
});
paintKeys();

const { runs, pairs } = pageData(); // pairs: run → which it was given, in words
const asked = new URLSearchParams(location.search);
let shown = asked.get("metric") in NUMBERS ? asked.get("metric") : "preferred_change";
let axis = asked.get("by") in AXES ? asked.get("by") : "step";

/** One run's numbers: coarse at first, finer where someone zooms. */
class Series {
  constructor(run) {
    this.run = run;
    this.metrics = new MetricHistory([...Object.keys(BATCH), "tokens_seen"]);
    this.bands = null;
    const load = (query) => api(`/runs/${run.id}/metrics?${query}`);
    this.detail = new Detail(load, (answer) => this.metrics.merge(answer.items));
    this.load = load;
    this.loadBands = (query) => api(`/runs/${run.id}/probes/bands?${query}`);
    this.bandsDetail = new Detail(this.loadBands, (answer) => {
      this.bands = insertBands(this.bands, answer);
    });
  }

  async start() {
    const answer = await this.load(`points=${POINTS}`);
    this.detail.begin(answer);
    this.metrics.merge(answer.items);
  }

  async startBands() {
    if (this.bands) return;
    this.bands = await this.loadBands(`points=${POINTS}`);
    this.bandsDetail.begin(this.bands);
  }

  /** Someone looks closer at a stretch of the horizontal axis. */
  async show(range) {
    const steps = this.stepsOf(range);
    await Promise.all([this.detail.show(steps), this.bands && this.bandsDetail.show(steps)]);
  }

  /** What is drawn: {id, name, x, y}. */
  line() {
    const { steps, y } = this.values();
    const x = axis === "step" ? steps : steps.map((step) => this.tokensAt(step));
    return { id: this.run.id, name: plainText(`${this.run.id} ${this.run.name}`), x, y };
  }

  values() {
    if (!(shown in PROBES)) return { steps: this.metrics.steps, y: this.metrics.columns[shown] };
    if (!this.bands) return { steps: [], y: [] };
    const found = this.bands[shown.slice("probes.".length)];
    return { steps: this.bands.steps, y: found.q50 ?? found };
  }

  /** How many tokens had been seen at a step, from the known step at or before it. */
  tokensAt(step) {
    const { steps, columns } = this.metrics;
    let at = -1;
    while (at + 1 < steps.length && steps[at + 1] <= step) at += 1;
    return at < 0 ? 0 : columns.tokens_seen[at];
  }

  /** [from, to] in steps for a stretch of the horizontal axis. */
  stepsOf([from, to]) {
    if (axis === "step") return [from, to];
    const inside = this.metrics.rows.filter((row) => row.tokens_seen >= from && row.tokens_seen <= to);
    return inside.length ? [inside[0].step, inside.at(-1).step] : [0, 0];
  }
}

async function start() {
  const all = runs.map((run) => new Series(run));
  await Promise.all(all.map((series) => series.start()));
  const lines = () => all.map((series) => series.line());
  const redraw = () => chart.redraw();
  const say = (problem) => $("[data-table]").prepend(problemNotice(problem));
  const bring = () =>
    shown in PROBES ? Promise.all(all.map((series) => series.startBands())).then(redraw, say) : redraw();
  const pick = (label, choices, value, onchange) =>
    choice(label, Object.entries(choices), value, (name) => {
      onchange(name);
      remember({ metric: shown, by: axis });
      bring();
    });
  const chart = new Chart($("#chart-compare"), {
    title: "Over the runs",
    name: `compare-${runs.map((run) => run.id).join("-")}`,
    why:
      "Batch numbers are means over each batch: runs on different data or with different batches compare only " +
      "roughly. Those of the probes are medians over each run's watched pairs.",
    controls: h(
      "span",
      { class: "actions" },
      pick("Number", NUMBERS, shown, (name) => {
        shown = name;
      }),
      pick("Horizontal axis", AXES, axis, (name) => {
        axis = name;
      }),
    ),
    figure: (colors) => compareFigure(lines(), axis === "step" ? "step" : "tokens seen", NUMBERS[shown], colors),
    onzoom: (range) => Promise.all(all.map((series) => series.show(range))).then(redraw, say),
    note: () => FORMULAS[shown.replace("probes.", "")] ?? "",
    describe: () =>
      lines()
        .map((line) => `${line.name}: ${number(line.y.at(-1))}`)
        .join(", "),
    csv: () => {
      const drawn = lines();
      return {
        run: drawn.flatMap((line) => line.x.map(() => line.id)),
        [axis]: drawn.flatMap((line) => line.x),
        [shown]: drawn.flatMap((line) => line.y),
      };
    },
  });
  bring();
  drawTable();
}

// --- where they ended --------------------------------------------------------------------------

function plain(value) {
  if (value === null || value === undefined) return "–";
  const text = Array.isArray(value) ? value.map(String).join(", ") : String(value);
  return h("span", { title: text.length > LONGEST_SETTING ? text : null }, clip(text, LONGEST_SETTING) || "none");
}

/** The tokens that gained most at any probe's fork, each once. */
function topGainers(run) {
  const best = new Map();
  for (const entry of (run.summary.probes ?? []).flatMap((probe) => probe.top_gainers ?? [])) {
    if (!(best.get(entry.token)?.change >= entry.change)) best.set(entry.token, entry);
  }
  return [...best.values()].sort((a, b) => b.change - a.change).slice(0, TOP_GAINERS);
}

/** [label, get(run) → a number, show(number) → words, what it is in a sentence, its formula] */
const ENDS = [
  [
    "Change of log p(y+), nats",
    (run) => run.summary.preferred_change,
    signed,
    "How much more likely the preferred responses became; below zero they lost.",
    FORMULAS.preferred_change,
  ],
  [
    "Change of log p(y−), nats",
    (run) => run.summary.dispreferred_change,
    signed,
    "How much more likely the dispreferred responses became; below zero they lost.",
    FORMULAS.dispreferred_change,
  ],
  [
    "Margin, nats",
    (run) => marginOf(run.summary),
    signed,
    "How much more the preferred responses gained than the dispreferred ones.",
    FORMULAS.margin,
  ],
  [
    "Displaced probes",
    (run) => run.summary.displaced_fraction,
    percent,
    "The share whose preferred response lost likelihood while the margin grew.",
    FORMULAS.displaced_fraction,
  ],
  [
    "Moved mass at the fork",
    (run) => run.summary.moved_mass,
    probability,
    "How much of the next token's probability is at other tokens than before.",
    "½ Σ_z |p_now(z) − p_initial(z)|",
  ],
  [
    "Final margin, batch, nats",
    (run) => run.summary.final_margin,
    signed,
    "The margin of the last batch's pairs.",
    FORMULAS.margin,
  ],
  ["Final loss", (run) => run.summary.final_loss, number, "The objective over the last batch's pairs."],
];

function marginOf({ preferred_change: up, dispreferred_change: down }) {
  return Number.isFinite(up) && Number.isFinite(down) ? up - down : null;
}

/** [[name, value of each run]] of what differs; a selection as one, in words. */
function settings() {
  const rows = differences(runs.map(({ config, dataset_name: dataset }) => ({ dataset, ...config })));
  const others = rows.filter(([name]) => !name.startsWith("selection."));
  const isSame = others.length === rows.length && new Set(Object.values(pairs)).size === 1;
  return isSame ? others : [["pairs", runs.map((run) => pairs[run.id])], ...others];
}

function drawTable() {
  const gainers = (run) =>
    topGainers(run).map((entry) => h("div", {}, tokenView(entry.token), ` ${probabilityChange(entry.change, 3)}`));
  const different = settings();
  const head = (run) =>
    h(
      "th",
      { class: "num", scope: "col" },
      runKey(run.id),
      h("a", { href: `/runs/${run.id}` }, `${run.id} ${run.name}`.slice(0, 40)),
    );
  const row = (label, cells) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", class: "quiet" }, label),
      cells.map((cell) => h("td", { class: "num" }, cell)),
    );
  $("[data-table]").replaceChildren(
    h(
      "div",
      { class: "card-head" },
      h("h2", {}, "Where they ended"),
      h("button", { type: "button", class: "icon", onclick: () => saveTable(different) }, "CSV"),
    ),
    h("p", { class: "small quiet" }, "Means over the watched pairs; below the line, the settings that differ."),
    h(
      "div",
      { class: "table-wrap" },
      h(
        "table",
        { class: "compare" },
        h("thead", {}, h("tr", {}, h("td", {}), runs.map(head))),
        h(
          "tbody",
          {},
          ENDS.map(([label, get, show, why, formula]) =>
            row(
              [label, " ", explained(why, formula)],
              runs.map((run) => show(get(run))),
            ),
          ),
          row("Top gainers", runs.map(gainers)),
        ),
        h(
          "tbody",
          { class: "settings" },
          different.map(([name, values]) =>
            row(h("code", {}, name), values.map(name === "pairs" ? (words) => words : plain)),
          ),
        ),
      ),
    ),
  );
}

function saveTable(different) {
  const rows = [
    ...ENDS.map(([label, get]) => [label, runs.map(get)]),
    [
      "Top gainers",
      runs.map((run) =>
        topGainers(run)
          .map((entry) => `${entry.token} ${entry.change}`)
          .join("; "),
      ),
    ],
    ...different.map(([name, values]) => [
      name,
      values.map((value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : value)),
    ]),
  ];
  const columns = { what: rows.map(([label]) => label) };
  runs.forEach((run, i) => {
    columns[`run ${run.id}`] = rows.map(([, values]) => values[i]);
  });
  saveFile(`compare-${runs.map((run) => run.id).join("-")}-table.csv`, toCsv(columns), "text/csv");
}

if (runs.length) start().catch((problem) => $("[data-table]").replaceChildren(problemNotice(problem)));
