// Training runs over each other: one number of each, over steps or tokens; and where they ended.

import { api, pageData } from "./api.js";
import { Chart } from "./chart.js";
import { $, $$, h, problemNotice } from "./dom.js";
import { palette } from "./figures/frame.js";
import { compareFigure, runStyle } from "./figures/compare.js";
import { signed, number, probability, percent } from "./format.js";
import { tokenView } from "./token-view.js";

const NUMBERS = {
  margin: "margin, nats", preferred_change: "change of log p(y+), nats", dispreferred_change: "change of log p(y−), nats",
  loss: "loss", displaced_fraction: "displaced fraction", accuracy: "fraction with margin > 0", grad_norm: "gradient norm",
};

const choose = $("[data-choose]");
choose?.addEventListener("submit", (event) => {
  event.preventDefault();
  const ids = $$("input:checked", choose).map((box) => box.value);
  location.assign(ids.length ? `/compare?runs=${ids.join(",")}` : "/compare");
});

const { runs } = pageData();
const parameters = new URLSearchParams(location.search);
let shown = parameters.get("metric") in NUMBERS ? parameters.get("metric") : "preferred_change";
let axis = parameters.get("by") === "tokens_seen" ? "tokens_seen" : "step";

async function start() {
  const rows = await Promise.all(runs.map(async (run) => (await api(`/runs/${run.id}/metrics`)).items));
  const lines = () => runs.map((run, i) => ({ id: run.id, name: `${run.id} ${run.name}`.replaceAll("<", "&lt;"), x: rows[i].map((row) => row[axis]), y: rows[i].map((row) => row[shown]) }));
  const remember = () => {
    const address = new URL(location);
    address.searchParams.set("metric", shown);
    address.searchParams.set("by", axis);
    history.replaceState(null, "", address);
    chart.redraw();
  };
  const select = (label, choices, value, onchange) => {
    const box = h("select", { "aria-label": label, onchange: () => { onchange(box.value); remember(); } }, Object.entries(choices).map(([name, text]) => h("option", { value: name, selected: name === value }, text)));
    return h("span", { class: "inline" }, box);
  };
  const chart = new Chart($("#chart-compare"), {
    title: "Over the runs", why: "Means over each batch. Runs on different data or with different batches compare only roughly.", name: `compare-${runs.map((run) => run.id).join("-")}`,
    controls: h("span", { class: "actions" }, select("Number", NUMBERS, shown, (name) => { shown = name; }), select("Horizontal axis", { step: "by step", tokens_seen: "by tokens seen" }, axis, (name) => { axis = name; })),
    figure: (colors) => compareFigure(lines(), axis === "step" ? "step" : "tokens seen", NUMBERS[shown], colors),
    describe: () => lines().map((line) => `${line.name}: ${number(line.y.at(-1))}`).join(", "),
    csv: () => { const all = lines(); return { run: all.flatMap((line) => line.x.map(() => line.id)), [axis]: all.flatMap((line) => line.x), [shown]: all.flatMap((line) => line.y) }; },
  });
  chart.redraw();
  drawTable();
  document.addEventListener("themechange", drawTable);
}

/** Settings in which the chosen runs differ. */
function differences() {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.config)))];
  return names.filter((name) => new Set(runs.map((run) => JSON.stringify(run.config[name] ?? null))).size > 1);
}

function plain(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value, 4);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function drawTable() {
  const colors = palette();
  const key = (run) => { const box = h("span", { class: "key" }); box.style.background = runStyle(run.id, colors).color; return box; };
  const gainers = (run) => (run.summary.probes ?? []).flatMap((probe) => probe.top_gainers).sort((a, b) => b.change - a.change).slice(0, 3);
  const lines = [
    ["Change of log p(y+), nats", (run) => signed(run.summary.preferred_change)],
    ["Change of log p(y−), nats", (run) => signed(run.summary.dispreferred_change)],
    ["Displaced probes", (run) => percent(run.summary.displaced_fraction)],
    ["Moved mass at the fork", (run) => probability(run.summary.moved_mass)],
    ["Final margin, batch, nats", (run) => signed(run.summary.final_margin)],
    ["Final loss", (run) => number(run.summary.final_loss)],
    ["Top gainers", (run) => gainers(run).map((entry) => [tokenView(entry.token), ` ${signed(entry.change, 2)} `])],
    ...differences().map((name) => [h("code", {}, name), (run) => plain(run.config[name])]),
  ];
  $("[data-table]").replaceChildren(
    h("div", { class: "card-head" }, h("h2", {}, "Where they ended"), h("span", { class: "small quiet" }, "means over the watched pairs; below, the settings that differ")),
    h("div", { class: "table-wrap" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, ""), runs.map((run) => h("th", { class: "num" }, key(run), h("a", { href: `/runs/${run.id}` }, `${run.id} ${run.name}`.slice(0, 40)))))),
      h("tbody", {}, lines.map(([label, get]) => h("tr", {}, h("td", { class: "quiet" }, label), runs.map((run) => h("td", { class: "num" }, get(run)))))))));
}

if (runs.length) start().catch((problem) => $("[data-table]").replaceChildren(problemNotice(problem)));
