// A training run's forecast against what it measured: a point a pair, the signs counted, and rank correlations.

import { forecastFigure } from "../figures/forecast.js";
import { api } from "../lib/api.js";
import { $, dataTable, h } from "../lib/dom.js";
import { hitSentence, rank } from "../lib/forecast.js";
import { clip, count } from "../lib/format.js";
import { measureOf } from "../lib/measures.js";
import { Chart } from "./chart.js";

export class ForecastCheck {
  /** @param {any} run */
  constructor(run) {
    this.run = run;
    this.found = null;
    this.chart = null;
  }

  /** Shown where the run measured its pairs: with a forecast, or with what is needed for one. */
  async start() {
    this.found = await api(`/runs/${this.run.id}/forecast`);
    const { pairs, left_out, message } = this.found;
    if (!pairs && !left_out) return;
    $("[data-forecast]").hidden = false;
    const numbers = $("[data-forecast-numbers]");
    $("#chart-forecast").hidden = !pairs;
    if (!pairs) {
      const score = `/datasets/${this.run.dataset_id}/new?kind=score&like=${this.run.id}`;
      const link = h("a", { class: "button", href: score }, "Score");
      numbers.replaceChildren(h("p", { class: "quiet" }, message), h("div", { class: "actions spaced" }, link));
      return;
    }
    numbers.replaceChildren(...this.numbersView());
    this.chart ??= new Chart($("#chart-forecast"), {
      title: "First step, forecast and after training",
      name: `run-${this.run.id}-forecast`,
      why:
        "Each point is a pair: how its preferred response would change at the first step, by the score run, and how " +
        "it had changed after the last step. Where the forecast is right, points lie lower left and upper right.",
      formula: "d+ ‖s+‖² − d− ⟨s+, s−⟩",
      figure: (colors) => forecastFigure(this.found.points, this.found.bins, colors),
      describe: () => hitSentence(this.found),
      note: () => this.note(),
      csv: () => {
        const column = (name) => this.found.points.map((point) => point[name]);
        return { pair: column("pair"), forecast: column("forecast"), change: column("change") };
      },
    });
    this.chart.redraw();
  }

  note() {
    const { pairs, left_out, points } = this.found;
    return [
      "The forecast is for plain gradient descent on each pair alone, through the output head.",
      points.length < pairs ? `${count(points.length)} of ${count(pairs)} pairs are drawn.` : "",
      left_out ? `${count(left_out)} pairs have no forecast or were edited since, and are left out.` : "",
    ].join(" ");
  }

  /** Which score run foretold, and why that one. */
  sourceView() {
    const { score_run: id, score_run_name: name, is_own: isOwn } = this.found;
    return h(
      "p",
      { class: "small quiet" },
      "Forecast by ",
      h("a", { href: `/runs/${id}` }, `score run ${id}, ${clip(name, 60)}`),
      isOwn ? ", which this run was set up with." : ", the newest over the same model and limits.",
    );
  }

  numbersView() {
    const { found } = this;
    const cell = (value) => h("td", { class: "num" }, count(value));
    const head = (text, kind = "num") => h("th", { class: kind, scope: "col" }, text);
    const row = (text, ...cells) => h("tr", {}, h("th", { scope: "row" }, text), cells);
    return [
      h("p", {}, hitSentence(found)),
      this.sourceView(),
      dataTable(
        [head("Preferred response", ""), head("fell"), head("did not")],
        [
          row("forecast to fall", cell(found.forecast_fall_fell), cell(found.forecast_fall_not)),
          row("not forecast to", cell(found.not_forecast_fell), cell(found.not_forecast_not)),
        ],
        { class: "spaced" },
      ),
      dataTable(
        [head("Spearman’s ρ with the measured change", ""), head("ρ")],
        found.ranks.map(({ name, spearman }) => {
          const label = name === "forecast" ? "Forecast" : measureOf(name).label;
          return row(label, h("td", { class: "num" }, rank(spearman)));
        }),
        { class: "spaced" },
      ),
    ];
  }
}
