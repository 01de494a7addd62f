// The charts of a score run: the distribution of a measure, and one measure against another with a brush.

import { distributionFigure, scatterFigure } from "../figures/scores.js";
import { choice, segmented, setQueryParameters } from "../lib/controls.js";
import { $, h } from "../lib/dom.js";
import { count, number } from "../lib/format.js";
import { labeled, measureOf, measures } from "../lib/measures.js";
import { Chart } from "./chart.js";

/** @type {[string, string][]} */
const QUANTILES = [
  ["5", "5 %"],
  ["50", "median"],
  ["95", "95 %"],
];
/** @type {[string, string][]} */
const TOOLS = [
  ["zoom", "Zoom"],
  ["select", "Box"],
  ["lasso", "Lasso"],
];

export class ScoreCharts {
  /**
   * @param {any} run
   * @param {any} state {summary, points, total, measure, x, y}, shared with the page
   * @param {{threshold: () => number | null, onselect: (pairs: number[]) => void}} options threshold: the value where
   *   flagging would begin; onselect: called with the pairs inside a drawn box or lasso
   */
  constructor(run, state, { threshold, onselect }) {
    this.run = run;
    this.state = state;
    this.tool = "zoom";
    const names = [...measures().keys()].filter((name) => state.summary.measures[name]?.count);
    $("[data-charts]").hidden = false;
    this.distribution = this.distributionChart(labeled(names), threshold);
    this.scatter = this.scatterChart(labeled(names), onselect);
  }

  redraw() {
    this.distribution.redraw();
    this.scatter.redraw();
  }

  distributionChart(names, threshold) {
    const { state } = this;
    const shown = () => state.summary.measures[state.measure];
    const about = () => measureOf(state.measure);
    return new Chart($("#chart-distribution"), {
      title: "Distribution",
      name: `run-${this.run.id}-distribution`,
      why: "How the chosen measure is spread over the pairs. Flagging takes the pairs whose responses are most alike.",
      controls: choice("Measure", names, state.measure, (name) => {
        state.measure = name;
        setQueryParameters({ measure: name });
        this.distribution.redraw();
      }),
      figure: (colors) =>
        distributionFigure(shown()?.histogram ?? [], about().label, colors, {
          threshold: threshold(),
          isAbove: about().similar_end !== "low",
          quantiles: this.quantiles(),
        }),
      describe: () =>
        shown()
          ? `${about().label}: from ${number(shown().minimum)} to ${number(shown().maximum)}, ` +
            `median ${number(shown().quantiles["50"])}.`
          : "",
      note: () =>
        [
          `${about().label} = ${about().formula}. ${about().help}`,
          shown()?.nonfinite ? `${count(shown().nonfinite)} values are not finite and left out.` : "",
        ].join(" "),
      csv: () => {
        const bins = shown().histogram;
        const column = (name) => bins.map((bin) => bin[name]);
        return { low: column("low"), high: column("high"), pairs: column("count") };
      },
    });
  }

  /** The quantiles to mark: those far enough apart for their labels. */
  quantiles() {
    const found = this.state.summary.measures[this.state.measure];
    if (!found || found.minimum === found.maximum) return [];
    const marks = QUANTILES.map(
      ([key, label]) => /** @type {[number, string]} */ ([found.quantiles[key], label]),
    ).filter(([value]) => Number.isFinite(value));
    const span = found.maximum - found.minimum;
    return marks.filter(([value], i) => i === 0 || value - marks[i - 1][0] > 0.09 * span);
  }

  scatterChart(names, onselect) {
    const { state } = this;
    const axis = (label, name) =>
      choice(label, names, state[name], (measure) => {
        state[name] = measure;
        setQueryParameters({ [name]: measure });
        onselect([]);
        this.scatter.redraw();
      });
    const tools = segmented("Dragging", TOOLS, this.tool, (tool) => {
      this.tool = tool;
      onselect([]);
      this.scatter.redraw();
    });
    const column = (name) => state.points.map((point) => point[name]);
    return new Chart($("#chart-scatter"), {
      title: "Two measures",
      name: `run-${this.run.id}-scatter`,
      why: "Each point is a pair; flagged ones are diamonds. With Box or Lasso, draw around pairs to flag them.",
      controls: h(
        "span",
        { class: "actions" },
        axis("Horizontal", "x"),
        axis("Vertical", "y"),
        this.run.kind === "score" ? tools : null,
      ),
      figure: (colors) =>
        scatterFigure(
          state.points.map((p) => ({ pair: p.pair, x: p[state.x], y: p[state.y], isFlagged: p.flagged })),
          measureOf(state.x).label,
          measureOf(state.y).label,
          colors,
          { tool: this.tool },
        ),
      onselect: (points) => onselect((points ?? []).map((point) => point.customdata)),
      describe: () =>
        `${measureOf(state.y).label} against ${measureOf(state.x).label} of ` + `${count(state.points.length)} pairs.`,
      note: () =>
        state.points.length < state.total
          ? `The first ${count(state.points.length)} of ${count(state.total)} pairs.`
          : "",
      csv: () => ({
        pair: column("pair"),
        [state.x]: column(state.x),
        [state.y]: column(state.y),
        flagged: column("flagged").map(String),
      }),
    });
  }
}
