// A pre-flight's page: the pairs with their predicted first step, who moves whom, and one pair in detail.

import { Chart } from "../charts/chart.js";
import { againstMeasuredFigure, arranged, influenceFigure } from "../figures/preflight.js";
import { API, api, pageData } from "../lib/api.js";
import { choice, segmented, setQueryParameters, throttle } from "../lib/controls.js";
import { $, $$, dataTable, h, problemNotice } from "../lib/dom.js";
import { clip, count, number, signed } from "../lib/format.js";
import { follow } from "../lib/live.js";
import { newestOnly } from "../lib/newest.js";
import { tokenView } from "../lib/token-view.js";
import { headOf } from "./_run_head.js";
import { PairDetail } from "./run_preflight/pair-detail.js";

const SOON_MS = 1500;
const SHOWN = 90;

const run = pageData();
const head = headOf(run);
const asked = new URLSearchParams(location.search);
/** @type {{found: any, side: "preferred" | "dispreferred", isClustered: boolean, trained: string | null}} */
const state = { found: null, side: "preferred", isClustered: true, trained: asked.get("trained") };
const detail = new PairDetail(run);
const newest = newestOnly();
/** @type {{influence?: Chart, measured?: Chart}} */
const charts = {};

async function load() {
  const query = state.trained ? `?train_run=${state.trained}` : "";
  const found = await newest(api(`/runs/${run.id}/preflight${query}`));
  if (!found) return;
  state.found = found;
  $("[data-csv]").setAttribute("href", `${API}/runs/${run.id}/preflight?format=csv${query.replace("?", "&")}`);
  if (!state.found.finished) return;
  $("[data-csv]").hidden = false;
  $("[data-summary]").replaceChildren(...summary(state.found));
  $("[data-list]").hidden = false;
  $("[data-pairs]").replaceChildren(table(state.found));
  showChosen();
  // One pair moves no other, and nothing is drawn of what nothing was measured of.
  if (state.found.influence.columns.length > 1) show("influence", influenceChart);
  if (state.found.train_runs.length) show("measured", measuredChart);
}

/** @param {"influence" | "measured"} name @param {() => Chart} make */
function show(name, make) {
  $(`#chart-${name}`).hidden = false;
  charts[name] ??= make();
  charts[name].redraw();
}

function summary(found) {
  const left = found.total - found.finished;
  const rest = left ? `; ${count(left)} more ${isActive() ? "to come" : "not finished"}` : "";
  const responses = found.finished === 1 ? "preferred response" : "preferred responses";
  const verb = found.falling === 1 || found.finished === 1 ? "falls" : "fall";
  return [
    h(
      "p",
      {},
      h("strong", {}, `${count(found.falling)} of ${count(found.finished)}`),
      ` ${responses} ${verb} at the first step${rest}. `,
      agreement(found),
    ),
    found.train_run === null && !isActive()
      ? h("div", { class: "actions" }, h("a", { class: "button", href: trainAddress() }, "Train on these pairs…"))
      : "",
  ];
}

const isActive = () => ["queued", "running"].includes(run.status);
const trainAddress = () => `/datasets/${run.dataset_id}/new?kind=train&like=${run.id}`;

/** How well training agreed, or why that is not known. */
function agreement(found) {
  if (found.train_run === null) return "No training run from this model has measured these pairs yet.";
  const rank = found.spearman === null ? "" : `, Spearman’s ρ ${number(found.spearman, 2)}`;
  const pairs = found.compared === 1 ? "pair" : "pairs";
  return (
    `In run ${found.train_run}, ${count(found.same_sign)} of ${count(found.compared)} ${pairs} went the way of this ` +
    `step${rank}. Training takes many steps, on many pairs at once, and may well end elsewhere.`
  );
}

function influenceChart() {
  const order = () => (state.isClustered ? state.found.influence.order : state.found.influence.columns);
  const matrix = () => arranged(state.found.influence, state.side, order());
  const redraw = () => charts.influence?.redraw();
  return new Chart($("#chart-influence"), {
    title: "Which pair moves which",
    name: `run-${run.id}-influence`,
    why:
      "Each row is a step on one pair, each column a pair that it moves: blue raises the response, orange lowers it. " +
      "The scale ends at the largest effect of a pair on another, so effects on themselves may lie beyond it.",
    formula: "Δⱼ = ⟨∇ log p(yⱼ), uᵢ⟩, uᵢ: the optimizer’s first step on pair i",
    controls: h(
      "span",
      { class: "actions" },
      segmented(
        "Response",
        [
          ["preferred", "y+"],
          ["dispreferred", "y−"],
        ],
        state.side,
        (side) => {
          state.side = side === "preferred" ? "preferred" : "dispreferred";
          redraw();
        },
      ),
      segmented(
        "Order",
        [
          ["clustered", "clustered"],
          ["pair", "by pair"],
        ],
        "clustered",
        (way) => {
          state.isClustered = way === "clustered";
          redraw();
        },
      ),
    ),
    figure: (colors) => influenceFigure(matrix(), colors),
    height: () => Math.max(320, Math.min(640, 90 + 15 * state.found.influence.columns.length)),
    describe: () => {
      const { rows, columns } = matrix();
      return `Steps on ${rows.length} pairs by ${columns.length} pairs.`;
    },
    csv: () => {
      const { rows, columns, values } = matrix();
      return Object.fromEntries([
        ["step_on_pair", rows],
        ...columns.map((pair, j) => [`moves_${pair}`, values.map((row) => row[j])]),
      ]);
    },
  });
}

function measuredChart() {
  const points = () =>
    state.found.items
      .filter((item) => item.measured_preferred_change !== null)
      .map((item) => ({ pair: item.pair, x: item.preferred_change, y: item.measured_preferred_change }));
  const runs = state.found.train_runs.map((one) => [String(one.run_id), clip(`${one.run_id} ${one.name}`, 40)]);
  return new Chart($("#chart-measured"), {
    title: "Predicted against measured",
    name: `run-${run.id}-predicted-against-measured`,
    why:
      "Each point is a pair: the change of log p(y+) that its first step alone is predicted to make, and what a " +
      "training run from the same model did to it. Points left of the line fall by themselves.",
    empty: "No training run from this model has measured any of these pairs yet.",
    controls: runs.length
      ? choice("Training run", runs, String(state.found.train_run), (id) => {
          state.trained = id;
          setQueryParameters({ trained: id });
          load().catch(showProblem);
        })
      : null,
    figure: (colors) => againstMeasuredFigure(points(), colors),
    describe: () => agreement(state.found),
    csv: () => ({
      pair: points().map((point) => point.pair),
      predicted: points().map((point) => point.x),
      measured: points().map((point) => point.y),
    }),
  });
}

function table(found) {
  const hasMeasured = found.compared > 0;
  const head = (name, ...parts) => h("th", { class: name }, parts);
  const measured = `What training run ${found.train_run} did to log p(y+), in nats`;
  return dataTable(
    [
      head("num", "Pair"),
      head("num", "Δ log p(y+)"),
      hasMeasured
        ? head("num", h("a", { href: `/runs/${found.train_run}`, title: measured }, `Run ${found.train_run}`))
        : null,
      head("num narrow-hide", "Δ log p(y−)"),
      head("num narrow-hide", "Lowered by"),
      head("", "Gains at the fork"),
      head("narrow-hide", "Responses"),
    ],
    found.items.map((item) => row(item, hasMeasured)),
    { wrap: "probe-list" },
  );
}

function row(item, hasMeasured) {
  const open = () => showPair(item.pair).catch(showProblem);
  const gains = item.gainers.map((gainer) => h("span", { class: "gain" }, tokenView(gainer.token), " "));
  const made = h(
    "tr",
    { class: "expandable", dataset: { pair: item.pair } },
    h("td", { class: "num" }, h("button", { type: "button", class: "pick", onclick: open }, count(item.pair))),
    h("td", { class: "num" }, changeView(item.preferred_change)),
    hasMeasured ? h("td", { class: "num" }, changeView(item.measured_preferred_change)) : null,
    h("td", { class: "num narrow-hide" }, signed(item.dispreferred_change)),
    h("td", { class: "num narrow-hide quiet" }, item.lowered_by === null ? "–" : `pair ${item.lowered_by}`),
    h("td", {}, gains),
    h(
      "td",
      { class: "narrow-hide small" },
      h("div", { class: "clip one" }, h("span", { class: "preferred-ink" }, "y+ "), clip(item.preferred, SHOWN)),
      h("div", { class: "clip one" }, h("span", { class: "dispreferred-ink" }, "y− "), clip(item.dispreferred, SHOWN)),
    ),
  );
  made.addEventListener("click", (event) => {
    if (!(/** @type {Element} */ (event.target).closest("button, a")) && !getSelection().toString()) open();
  });
  return made;
}

/** A change in nats, with its direction in a mark, a color and a word. @param {number | null} change */
function changeView(change) {
  if (change === null) return "–";
  const [ink, mark, word] = change < 0 ? ["dispreferred-ink", "↓", " falls"] : ["preferred-ink", "↑", " rises"];
  return [
    h("span", { class: `${ink} nowrap` }, `${mark} ${signed(change)}`),
    h("span", { class: "visually-hidden" }, word),
  ];
}

async function showPair(pair) {
  await detail.show(pair, state.trained);
  showChosen();
}

/** Mark the row of the pair that is shown in detail. */
function showChosen() {
  for (const row of $$("[data-pairs] tr[data-pair]")) {
    const isChosen = row.dataset.pair === String(detail.pair?.pair);
    row.classList.toggle("chosen", isChosen);
    $(".pick", row).setAttribute("aria-pressed", String(isChosen));
  }
}

function showProblem(problem) {
  $("[data-problem]").replaceChildren(problemNotice(problem));
}

const loadSoon = throttle(() => load().catch(showProblem), SOON_MS);

load()
  .then(() => asked.get("pair") !== null && showPair(Number(asked.get("pair"))))
  .catch(showProblem);
if (isActive()) {
  let last = run.status;
  let finished = -1;
  follow(run.id, run.revision, {
    status: (now) => {
      head.showProgress(now.progress, now.phase);
      if (now.status !== last) head.refreshHead();
      last = run.status = now.status;
    },
    progress: (now) => {
      head.showProgress(now, now.phase);
      const pairs = Math.floor(now.done / Math.sqrt(now.total || 1));
      if (pairs !== finished) loadSoon();
      finished = pairs;
    },
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: async () => {
      head.showConnection(null);
      await head.refreshHead();
      run.status = (await api(`/runs/${run.id}`)).status;
      await load().catch(showProblem);
    },
  });
}
