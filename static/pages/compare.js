// The comparison of training runs: one number of each over steps or tokens, and a table of how they ended.

import { Chart } from "../charts/chart.js";
import { paintKeys } from "../charts/run-key.js";
import { compareFigure } from "../figures/compare.js";
import { pageData } from "../lib/api.js";
import { choice, setQueryParameters } from "../lib/controls.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { AXES, FORMULAS, NUMBERS, PROBES, Series } from "./compare/series.js";
import { drawTable } from "./compare/table.js";

const choose = $("[data-choose]");
choose?.addEventListener("submit", (event) => {
  event.preventDefault();
  const ids = $$("input:checked", choose).map((box) => box.value);
  location.assign(ids.length ? `/compare?runs=${ids.join(",")}` : "/compare");
});
paintKeys();

const { runs, pairs } = pageData(); // pairs: run id → which pairs it was given, in words
const asked = new URLSearchParams(location.search);
let shown = asked.get("metric") in NUMBERS ? asked.get("metric") : "preferred_change";
let axis = asked.get("by") in AXES ? asked.get("by") : "step";

async function start() {
  const all = runs.map((run) => new Series(run));
  await Promise.all(all.map((series) => series.start()));
  const lines = () => all.map((series) => series.line(shown, axis));
  const redraw = () => chart.redraw();
  const showProblem = (problem) => $("[data-table]").prepend(problemNotice(problem));
  const update = () =>
    shown in PROBES ? Promise.all(all.map((series) => series.startBands())).then(redraw, showProblem) : redraw();
  const pick = (label, choices, value, onchange) =>
    choice(label, Object.entries(choices), value, (name) => {
      onchange(name);
      setQueryParameters({ metric: shown, by: axis });
      update();
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
    onzoom: (range) => Promise.all(all.map((series) => series.show(range, axis))).then(redraw, showProblem),
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
  update();
  drawTable(runs, pairs);
}

if (runs.length) start().catch((problem) => $("[data-table]").replaceChildren(problemNotice(problem)));
