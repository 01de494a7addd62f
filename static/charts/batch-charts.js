// The charts of batch metrics over optimizer steps.

import { batchFigure, firstPhaseEnd, phaseFigure } from "../figures/batches.js";
import { DISPLACED_FORMULA } from "../lib/displaced.js";
import { $ } from "../lib/dom.js";
import { number, percent, signed } from "../lib/format.js";
import { MetricHistory } from "../lib/metric-history.js";
import { Chart } from "./chart.js";
import { OtherMetrics } from "./other-metrics.js";

/** @import { MetricName, MetricRow } from "../lib/types.js" */

/** @type {MetricName[]} */
const METRICS = [
  "loss",
  "margin",
  "preferred_logprob",
  "dispreferred_logprob",
  "preferred_change",
  "dispreferred_change",
  "displaced_fraction",
  "accuracy",
  "grad_norm",
  "learning_rate",
  "tokens_per_second",
  "tokens_seen",
];
const ZERO = { zeroline: true, zerolinewidth: 1 };
const NO_MARGIN = "Cross-entropy has no margin.";

/**
 * The options of each chart by its element: lines are [metric, label, color]; show(value): a value as text;
 * format: d3's, of hovered values.
 *
 * @param {any} run
 * @returns {[string, any][]}
 */
function kinds(run) {
  const isPreference = run.config.objective !== "cross_entropy";
  return [
    [
      "#chart-margin",
      {
        title: "Margin",
        formula: "m = Δ log p(y+) − Δ log p(y−)",
        unit: "nats",
        y: ZERO,
        why: "How much more the preferred response gained than the dispreferred one, mean over each batch's pairs.",
        lines: [["margin", "margin", "ink"]],
        empty: isPreference ? undefined : NO_MARGIN,
      },
    ],
    [
      "#chart-batch-change",
      {
        title: "Change of log p, batch",
        formula: "Δ log p(y) = log p(y) − log p_ref(y)",
        unit: "nats",
        y: ZERO,
        why:
          "Change against the reference, mean over each batch's pairs. Batches hold different pairs: " +
          "trust the probes more.",
        lines: [
          ["preferred_change", "preferred y+", "preferred"],
          ["dispreferred_change", "dispreferred y−", "dispreferred"],
        ],
      },
    ],
    [
      "#chart-loss",
      {
        title: "Loss",
        formula: run.config.objective,
        unit: "loss",
        show: number,
        why:
          "The objective, mean over each batch's pairs. A falling loss says nothing about where the " +
          "probability goes.",
        lines: [["loss", "loss", "ink"]],
      },
    ],
    [
      "#chart-displaced",
      {
        // A trainer elsewhere logs means of a batch, which do not say which pairs are displaced.
        ...(run.kind === "external"
          ? {
              title: "Pairs with a positive margin",
              formula: "share with margin > 0",
              why: "The share of a batch's pairs with a positive margin, as the trainer logs it.",
              lines: [["accuracy", "margin > 0", "ink"]],
            }
          : {
              title: "Displaced fraction",
              formula: DISPLACED_FORMULA,
              why:
                "The share of a batch's pairs whose preferred response lost likelihood while the margin grew; " +
                "and the share with a positive margin.",
              lines: [
                ["displaced_fraction", "displaced", "dispreferred"],
                ["accuracy", "margin > 0", "ink"],
              ],
            }),
        unit: "share of pairs",
        show: percent,
        y: { range: [-0.03, 1.03], tickformat: ".0%" },
        format: ".0%",
        empty: isPreference ? undefined : "Cross-entropy has no margin, so nothing counts as displaced.",
      },
    ],
    [
      "#chart-grad",
      {
        title: "Gradient norm",
        formula: "‖∇ loss‖₂",
        unit: "norm",
        show: number,
        why: "The Euclidean norm of the gradient before the optimizer's step.",
        lines: [["grad_norm", "gradient norm", "ink"]],
      },
    ],
  ];
}

export class BatchCharts {
  /**
   * @param {any} run
   * @param {(range: [number, number]) => unknown} onzoom called with the range of steps zoomed to
   * @param {() => unknown} onchoose another of the further metrics is shown
   */
  constructor(run, onzoom, onchoose) {
    this.run = run;
    this.weight = 0.8;
    this.metrics = new MetricHistory(METRICS);
    this.charts = [...kinds(run).map(([id, kind]) => this.chart(id, kind, onzoom)), this.phaseChart()];
    const host = $("#chart-other"); // of a trainer elsewhere
    this.others = host
      ? new OtherMetrics(host, this.metrics, {
          name: `run-${run.id}-other`,
          weight: () => this.weight,
          onchoose,
          onzoom,
        })
      : null;
    if (this.others) this.charts.push(this.others.chart);
    $("[data-smoothing]").addEventListener("input", (event) => {
      this.weight = Number(event.target.value);
      this.redraw();
    });
  }

  chart(id, { title, why, formula, lines, unit, show = signed, y, format, empty }, onzoom) {
    const shown = () => lines.filter(([name]) => this.column(name).some((value) => value !== null));
    return new Chart($(id), {
      title,
      why,
      formula,
      empty,
      onzoom,
      name: `run-${this.run.id}-${id.slice("#chart-".length)}`,
      figure: (colors) =>
        batchFigure(
          this.metrics.steps,
          shown().map(([name, label, color]) => ({ name: label, values: this.column(name), color })),
          colors,
          { weight: this.weight, unit, y, format, phaseEnd: this.phaseEnd() },
        ),
      describe: () =>
        `${lines.map(([name, label]) => `${label}: now ${this.latest(name, show)}`).join(", ")}, ` +
        `${this.metrics.steps.length} steps.`,
      note: () => {
        const missing = this.metrics.nonfiniteSteps;
        return missing
          ? `${missing} step${missing === 1 ? "" : "s"} with numbers that are not finite: shown as gaps.`
          : "";
      },
      csv: () =>
        Object.fromEntries([["step", this.metrics.steps], ...lines.map(([name]) => [name, this.column(name)])]),
    });
  }

  phaseChart() {
    const isPreference = this.run.config.objective !== "cross_entropy";
    return new Chart($("#chart-phase"), {
      title: "Likelihood against margin",
      formula: "x: m,  y: Δ log p(y+)",
      name: `run-${this.run.id}-phase`,
      why:
        "Each point is a step. Below the line and to the right of it, the margin is bought by losing " +
        "the preferred response.",
      empty: isPreference ? undefined : NO_MARGIN,
      figure: (colors) => {
        const has = this.column("margin").some((value) => value !== null);
        const rows = (list) => (has ? list : []);
        return phaseFigure(
          rows(this.metrics.steps),
          rows(this.column("margin")),
          rows(this.column("preferred_change")),
          colors,
        );
      },
      note: () => (isPreference ? "Lower right: displaced." : ""),
      describe: () =>
        `Now: margin ${this.latest("margin")} nats, ` + `change of y+ ${this.latest("preferred_change")} nats.`,
      csv: () => ({
        step: this.metrics.steps,
        margin: this.column("margin"),
        preferred_change: this.column("preferred_change"),
      }),
    });
  }

  /** What a request for metrics is to add, so that the peaks of the further metric on show are kept. */
  get query() {
    const { other } = this.metrics;
    return other === null ? "" : `&other=${encodeURIComponent(other)}`;
  }

  phaseEnd() {
    return this.run.config.extend_sft_epochs ? firstPhaseEnd(this.metrics.steps, this.column("margin")) : null;
  }

  column(name) {
    return this.metrics.columns[name];
  }

  latest(name, show = signed) {
    const values = this.column(name);
    return values.length ? show(values.at(-1)) : "–";
  }

  /** A row of the event stream. @param {MetricRow} row */
  put(row) {
    const isAppended = this.metrics.put(row);
    this.others?.update();
    for (const chart of this.charts) {
      if (isAppended) chart.append();
      else chart.redraw();
    }
  }

  /** Rows of the API. @param {MetricRow[]} rows */
  merge(rows) {
    this.metrics.merge(rows);
    this.others?.update();
    this.redraw();
  }

  /** The training was resumed from a step. @param {number} step */
  cut(step) {
    this.metrics.cut(step);
    this.redraw();
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }
}
