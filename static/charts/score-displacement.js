// The chart of a measure before training against the displacement that a later training run measured, as Figure 2 of
// the paper (arXiv 2410.08847) has it.

import { displacementFigure } from "../figures/scores.js";
import { api } from "../lib/api.js";
import { choice, setQueryParameters } from "../lib/controls.js";
import { $, h } from "../lib/dom.js";
import { count, number } from "../lib/format.js";
import { labeled, measureOf } from "../lib/measures.js";
import { newestOnly } from "../lib/newest.js";
import { Chart } from "./chart.js";

const COMPARED = [
  "ches",
  "ln_ches",
  "length_gap",
  "implicit_gap",
  "head_shift",
  "last_hidden_inner_product",
  "normalized_edit_distance",
];

const POINTS = 5000; // more would hide one another

export class DisplacementChart {
  constructor(run) {
    const asked = new URLSearchParams(location.search);
    this.run = run;
    this.measure = COMPARED.includes(asked.get("against")) ? asked.get("against") : "ches";
    this.trained = Number(asked.get("trained") ?? NaN);
    this.found = null;
    this.newest = newestOnly();
  }

  /** Shown where a training run over the same dataset has measured the displacement of its pairs. */
  async start() {
    const { items: runs } = await api(`/runs/${this.run.id}/displacements`);
    if (!runs.length) return;
    $("[data-displacement]").hidden = false;
    if (!runs.some((run) => run.run_id === this.trained)) this.trained = runs[0].run_id;
    const names = runs.map((run) => [String(run.run_id), `${run.run_id} ${run.name} (${count(run.measured)} pairs)`]);
    this.chart = new Chart($("#chart-displacement"), {
      title: "Against measured displacement",
      name: `run-${this.run.id}-against-displacement`,
      why:
        "Each point is a pair that the chosen run trained on: its score before, and how much its preferred " +
        "response gained or lost. Where the measure is right, high scores lost most.",
      formula: "ρ: Spearman's rank correlation",
      controls: h(
        "span",
        { class: "actions" },
        choice("Training run", names, String(this.trained), (id) => {
          this.trained = Number(id);
          this.load();
        }),
        choice("Measure", labeled(COMPARED), this.measure, (name) => {
          this.measure = name;
          this.load();
        }),
      ),
      figure: (colors) => displacementFigure(this.points(), measureOf(this.measure).label, colors),
      describe: () => this.inWords(),
      note: () => `${this.inWords()} ${this.drawnInWords()}`.trim(),
      csv: () => {
        const column = (name) => this.found.items.map((item) => item[name]);
        return {
          pair: column("pair"),
          [this.measure]: column("value"),
          preferred_change: column("preferred_change"),
          dispreferred_change: column("dispreferred_change"),
        };
      },
    });
    await this.load();
  }

  async load() {
    const query = `score_run=${this.run.id}&measure=${this.measure}&points=${POINTS}`;
    const found = await this.newest(api(`/runs/${this.trained}/displacement?${query}`));
    if (!found) return;
    this.found = found;
    setQueryParameters({ trained: this.trained, against: this.measure });
    this.chart.redraw();
  }

  points() {
    return (this.found?.items ?? []).map((item) => ({ pair: item.pair, x: item.value, y: item.preferred_change }));
  }

  inWords() {
    if (!this.found) return "";
    const { spearman, n } = this.found;
    const agreement =
      spearman === null
        ? "There are too few pairs for a rank correlation."
        : `Spearman's ρ = ${number(spearman, 2)} over ${count(n)} pairs.`;
    return `${measureOf(this.measure).label} against the change of log p(y+) in run ${this.trained}: ${agreement}`;
  }

  /** Said where not all pairs are drawn. */
  drawnInWords() {
    if (!this.found?.decimated) return "";
    const drawn = this.points().filter(({ x, y }) => x !== null && y !== null);
    return `${count(drawn.length)} of ${count(this.found.n)} pairs drawn; the correlation is over all.`;
  }
}
