// One chart for what a trainer elsewhere logged beyond the numbers that every training has: a list chooses which.

import { batchFigure } from "../figures/batches.js";
import { choice, setQueryParameters } from "../lib/controls.js";
import { h } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { Chart } from "./chart.js";

/** @import { MetricHistory } from "../lib/metric-history.js" */

const PARAMETER = "metric";
/** Every Hugging Face trainer logs it, and it is a straight line. */
const DULL = "epoch";

/** The metric that the page's address names. */
export const askedMetric = () => new URLSearchParams(location.search).get(PARAMETER);

export class OtherMetrics {
  /**
   * @param {HTMLElement} host
   * @param {MetricHistory} metrics
   * @param {{
   *   name: string, weight: () => number, onchoose: () => unknown, onzoom: (range: [number, number]) => unknown,
   * }} options name: of downloaded files; weight: of the smoothing
   */
  constructor(host, metrics, { name, weight, onchoose, onzoom }) {
    this.host = host;
    this.metrics = metrics;
    this.onchoose = onchoose;
    /** @type {string[]} */
    this.names = [];
    this.list = h("span", {});
    metrics.other = askedMetric();
    this.chart = new Chart(host, {
      title: "Other metrics",
      name,
      why: "What else the trainer logged, by its own names and in its own units.",
      controls: this.list,
      onzoom,
      empty: "Nothing was logged by this name.",
      figure: (colors) => {
        const { steps, values } = metrics.otherColumn();
        const lines = [{ name: metrics.other ?? "", values, color: /** @type {const} */ ("ink") }];
        return batchFigure(steps, lines, colors, { weight: weight(), unit: metrics.other ?? "" });
      },
      describe: () => {
        const { steps, values } = metrics.otherColumn();
        return `${metrics.other}: now ${number(values.at(-1))}, ${steps.length} steps.`;
      },
      csv: () => {
        const { steps, values } = metrics.otherColumn();
        return { step: steps, [metrics.other ?? ""]: values };
      },
    });
  }

  /** Rows have come: show the chart once there is something for it, and list what may be chosen. */
  update() {
    const names = this.metrics.otherNames();
    if (names.length === this.names.length) return;
    this.names = names;
    this.host.hidden = !names.length;
    const asked = this.metrics.other;
    if (asked === null || !names.includes(asked)) {
      this.metrics.other = names.find((name) => name !== DULL) ?? names[0];
    }
    const choices = names.map((name) => /** @type {[string, string]} */ ([name, name]));
    this.list.replaceChildren(choice("Metric", choices, this.metrics.other ?? "", (name) => this.choose(name)));
    if (this.metrics.other !== asked) this.onchoose();
  }

  /** @param {string} name */
  choose(name) {
    this.metrics.other = name;
    setQueryParameters({ [PARAMETER]: name });
    this.chart.redraw();
    this.onchoose();
  }
}
