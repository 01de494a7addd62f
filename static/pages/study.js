// A study's page: progress, sentences, charts and tables, asked for again while the study goes on.

import { Chart } from "../charts/chart.js";
import { panelColumns, studyFigure } from "../figures/study.js";
import { api, pageData } from "../lib/api.js";
import { explained } from "../lib/controls.js";
import { $, $$, confirmed, dataTable, h, problemNotice } from "../lib/dom.js";
import { bytes, count, duration, number } from "../lib/format.js";
import { refresh } from "../lib/refresh.js";

const BUSY_MS = 2000;
const HEAD = ["facts", "actions", "state"];

let study = pageData();
const at = `/studies/${study.id}`;
/** By title; a chart keeps its place while its numbers change. @type {Map<string, {chart: Chart, panel: any}>} */
const charts = new Map();

const isOpen = () => ["queued", "running"].includes(study.status);
const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));

function show() {
  showProgress(study.progress);
  const { result } = study;
  $("[data-sentences]").hidden = !result?.sentences.length;
  const sentences = (result?.sentences ?? []).map((text) => h("p", {}, text));
  if (isOpen()) sentences.unshift(h("p", { class: "quiet small" }, "So far, by the runs that have ended:"));
  $("[data-sentences]").replaceChildren(...sentences);
  for (const panel of study.figures) showChart(panel);
  $("[data-multiples]").hidden = !study.figures.some((panel) => panel.small);
  const tables = result?.tables ?? [];
  $("[data-tables]").replaceChildren(
    ...(tables.length ? tables.map(tableCard) : [h("section", { class: "card" }, nothingYet())]),
  );
  $("[data-paper]").hidden = !result?.paper.length;
  $("[data-paper-table]").replaceChildren(paperTable(result?.paper ?? []));
  $("[data-runs]").replaceChildren(runTable());
}

const nothingYet = () =>
  h("p", { class: "quiet" }, isOpen() ? "The table fills as runs end." : "No run of the study has succeeded.");

function showProgress({ total, succeeded, failed, cancelled, running, eta_seconds }) {
  const part = total ? (100 * succeeded) / total : 0;
  const more = [
    failed && `${failed} failed`,
    cancelled && `${cancelled} cancelled`,
    running && `${running} running`,
  ].filter(Boolean);
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("width", `${part}%`);
  rect.setAttribute("height", "100%");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(rect);
  $("[data-progress]").replaceChildren(
    h(
      "div",
      {
        class: "bar",
        role: "progressbar",
        "aria-label": "Progress",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": Math.round(part),
      },
      svg,
    ),
    h(
      "div",
      { class: "facts-line" },
      h("span", {}, [`${succeeded} of ${total} runs`, ...more].join(", ")),
      h("span", {}, eta_seconds === null ? "" : `about ${duration(eta_seconds)} left`),
    ),
  );
}

function showChart(panel) {
  const known = charts.get(panel.title);
  if (known) {
    if (JSON.stringify(known.panel) === JSON.stringify(panel)) return;
    known.panel = panel;
    known.chart.redraw();
    return;
  }
  const host = h("div", { class: panel.small ? "chart" : "card chart" });
  $(panel.small ? "[data-small-charts]" : "[data-wide-charts]").append(host);
  const entry = { panel, chart: /** @type {any} */ (null) };
  entry.chart = new Chart(host, {
    title: panel.title,
    name: `study-${study.id}-${panel.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`,
    why: panel.why,
    figure: (colors) => studyFigure(entry.panel, colors),
    csv: () => panelColumns(entry.panel),
    describe: () => entry.panel.series.map((one) => `${one.name}: ${number(one.y.at(-1))}`).join(", "),
  });
  charts.set(panel.title, entry);
  entry.chart.redraw();
}

function tableCard(table, index) {
  const csv = `/api/v1${at}/table.csv?number=${index}`;
  return h(
    "section",
    { class: "card" },
    h(
      "div",
      { class: "card-head" },
      h("h2", {}, table.title),
      h("a", { class: "button", href: csv, download: true }, "CSV"),
    ),
    dataTable(
      [
        h("th", { scope: "col" }, "Cell"),
        hasRuns(table) ? h("th", { scope: "col" }, "Runs") : null,
        hasAnswers(table) ? h("th", { scope: "col" }, "Answers ", explained(ANSWERS)) : null,
        table.columns.map((column) => headCell(table, column)),
      ],
      table.cells.map((cell) => cellRow(table, cell)),
      { class: "study-table" },
    ),
    table.note ? h("p", { class: "quiet small" }, table.note) : null,
  );
}

const ANSWERS = "The judge runs: their pages show every answer with its verdict.";
const hasRuns = (table) => table.cells.some((cell) => cell.runs.length);
const hasAnswers = (table) => table.cells.some((cell) => cell.answers.length);
const hasNumbers = (table, key) => table.cells.some((cell) => cell.numbers[key]);

function headCell(table, { key, label, unit, help }) {
  const text = unit ? `${label}, ${unit}` : label;
  return h(
    "th",
    { scope: "col", class: hasNumbers(table, key) ? "num" : "" },
    text,
    help ? [" ", explained(help)] : null,
  );
}

function cellRow(table, cell) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, cell.label),
    hasRuns(table) ? h("td", { class: "run-links" }, runLinks(cell.runs, true)) : null,
    hasAnswers(table) ? h("td", { class: "run-links" }, runLinks(cell.answers, false)) : null,
    table.columns.map(({ key }) =>
      hasNumbers(table, key)
        ? h("td", { class: "num nowrap" }, spread(cell.numbers[key], cell.intervals[key]))
        : h("td", { class: "words" }, cell.texts[key] || "–"),
    ),
  );
}

/** A mean with its standard deviation and its interval, if it has one; the range over the runs on hover. */
function spread(value, interval) {
  if (!value) return "–";
  const range = `${value.n} run${value.n === 1 ? "" : "s"}, ${number(value.low)} to ${number(value.high)}`;
  const sd = value.sd === null ? null : h("span", { class: "quiet" }, ` ± ${number(value.sd, 2)}`);
  const ends = interval && h("span", { class: "quiet small" }, ` [${number(interval.low)}, ${number(interval.high)}]`);
  return h("span", { title: range }, number(value.mean), sd, ends);
}

function runLinks(runs, areCompared) {
  if (!runs.length) return "–";
  const links = runs.map((run) =>
    h(
      "a",
      {
        href: `/runs/${run.run_id}`,
        class: run.left_out ? "left-out" : run.status === "succeeded" ? "" : "unfinished",
        title: run.left_out ? `left out: ${run.left_out}` : `seed ${run.seed}, ${run.status}`,
      },
      String(run.run_id),
    ),
  );
  if (areCompared && runs.length > 1) {
    const ids = runs.map((run) => run.run_id).join(",");
    links.push(h("a", { class: "small", href: `/compare?runs=${ids}` }, "compare"));
  }
  return links.flatMap((link) => [link, " "]);
}

function paperTable(rows) {
  return h(
    "table",
    {},
    h(
      "tbody",
      {},
      rows.map((row) =>
        h("tr", {}, h("td", {}, row.label), h("td", {}, row.value), h("td", { class: "quiet" }, row.source)),
      ),
    ),
  );
}

function runTable() {
  return h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Run", "Cell", "Seed", "Role", "Status"].map((text) => h("th", {}, text)),
      ),
    ),
    h(
      "tbody",
      {},
      study.runs.map((run) =>
        h(
          "tr",
          {},
          h("td", {}, h("a", { href: `/runs/${run.run_id}` }, `${run.run_id} ${run.name}`)),
          h("td", {}, run.cell || "all"),
          h("td", {}, String(run.seed)),
          h("td", {}, run.role.replaceAll("_", " ")),
          h("td", {}, h("span", { class: `chip ${run.status}` }, run.status)),
        ),
      ),
    ),
  );
}

async function update() {
  const before = study.status;
  const fresh = await api(at);
  const isSame = JSON.stringify(fresh.runs) === JSON.stringify(study.runs) && fresh.status === before;
  study = fresh;
  if (isSame) showProgress(study.progress);
  else show();
  if (!isSame) await refresh(HEAD);
}

let isPolling = false;
/** Ask again and again until the study has ended; a tab in the background does not. */
async function poll() {
  if (isPolling) return;
  isPolling = true;
  while (isOpen()) {
    await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
    if (!document.hidden) await update().catch(() => {});
  }
  isPolling = false;
}

document.addEventListener("click", async (event) => {
  const button = /** @type {Element} */ (event.target).closest("button[data-act]");
  if (!(button instanceof HTMLButtonElement)) return;
  button.disabled = true;
  try {
    await act(button.dataset.act);
  } catch (problem) {
    showProblem(problem);
  }
  button.disabled = false;
});

async function removeModels() {
  const { runs, bytes: size } = study.models;
  const question = {
    title: `Remove ${count(runs)} trained model${runs === 1 ? "" : "s"}?`,
    text:
      `This frees ${bytes(size)}. The runs with their numbers and answers, and the study's results, stay. ` +
      "No new run can start from these models: an extension that needs one of them fails.",
    action: "Remove the models",
  };
  if (!(await confirmed(question))) return;
  await api(`${at}/models`, { method: "DELETE" });
  study = await api(at);
  await refresh(HEAD);
}

async function act(action) {
  if (action === "remove-models") {
    await removeModels();
    return;
  }
  if (action === "delete") {
    const question = {
      title: `Delete “${study.name}”?`,
      text: "Its plan and tables are deleted. Its runs stay.",
      action: "Delete the study",
    };
    if (!(await confirmed(question))) return;
    await api(at, { method: "DELETE" });
    location.assign("/studies");
    return;
  }
  await api(`${at}/${action}`, { method: "POST" });
  await update();
  poll();
}

$("[data-extend]")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = {};
  for (const input of $$("input", event.target)) {
    const values = input.value
      .split(",")
      .map((text) => text.trim())
      .filter(Boolean);
    if (values.length) body[input.name] = values.map((text) => (/^\d+$/.test(text) ? Number(text) : text));
  }
  try {
    await api(`${at}/extend`, { method: "POST", body });
    location.reload();
  } catch (problem) {
    showProblem(problem);
  }
});

show();
poll();
