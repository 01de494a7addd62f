// The numbers that runs are compared by, and each run's series of them.

import { insertBands } from "../../figures/bands.js";
import { plainText } from "../../figures/frame.js";
import { api } from "../../lib/api.js";
import { Detail, POINTS } from "../../lib/detail.js";
import { DISPLACED_FORMULA } from "../../lib/displaced.js";
import { MetricHistory } from "../../lib/metric-history.js";

/** @import { Bands, MetricName } from "../../lib/types.js" */

/** Metrics of batches. @type {Partial<Record<MetricName, string>>} */
export const BATCH = {
  preferred_change: "change of log p(y+), batch, nats",
  dispreferred_change: "change of log p(y−), batch, nats",
  margin: "margin, batch, nats",
  displaced_fraction: "displaced fraction, batch",
  loss: "loss",
  accuracy: "fraction with margin > 0",
  grad_norm: "gradient norm",
};
/** Medians over the watched pairs: the same pairs at every step. @type {Record<string, string>} */
export const PROBES = {
  "probes.preferred_change": "change of log p(y+), median of the probes, nats",
  "probes.dispreferred_change": "change of log p(y−), median of the probes, nats",
  "probes.margin": "margin, median of the probes, nats",
  "probes.displaced_fraction": "displaced fraction of the probes",
};
export const NUMBERS = { ...BATCH, ...PROBES };
/** @type {Record<string, string>} */
export const FORMULAS = {
  preferred_change: "Δ log p(y+) = log p(y+) − log p_ref(y+)",
  dispreferred_change: "Δ log p(y−) = log p(y−) − log p_ref(y−)",
  margin: "m = Δ log p(y+) − Δ log p(y−)",
  displaced_fraction: DISPLACED_FORMULA,
  grad_norm: "‖∇ loss‖₂",
};
export const AXES = { step: "by step", tokens_seen: "by tokens seen" };
/** One run's numbers: downsampled at first, at full resolution where someone zooms. */
export class Series {
  constructor(run) {
    this.run = run;
    this.metrics = new MetricHistory([.../** @type {MetricName[]} */ (Object.keys(BATCH)), "tokens_seen"]);
    /** @type {Bands | null} */
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

  /** Load a range of the horizontal axis. @param {[number, number]} range @param {string} axis */
  async show(range, axis) {
    const steps = this.stepsOf(range, axis);
    await Promise.all([this.detail.show(steps), this.bands && this.bandsDetail.show(steps)]);
  }

  /** The line of one number, as compareFigure draws it. @param {string} shown @param {string} axis */
  line(shown, axis) {
    const { steps, y } = this.values(shown);
    const x = axis === "step" ? steps : steps.map((step) => this.tokensAt(step));
    return { id: this.run.id, name: plainText(`${this.run.id} ${this.run.name}`), x, y };
  }

  /** @param {string} shown @returns {{steps: number[], y: (number | null)[]}} */
  values(shown) {
    if (!(shown in PROBES)) return { steps: this.metrics.steps, y: this.metrics.columns[shown] };
    if (!this.bands) return { steps: [], y: [] };
    const found = this.bands[shown.slice("probes.".length)];
    return { steps: this.bands.steps, y: found.q50 ?? found };
  }

  /** How many tokens had been seen at a step, from the known step at or before it. @param {number} step */
  tokensAt(step) {
    const { steps, columns } = this.metrics;
    let at = -1;
    while (at + 1 < steps.length && steps[at + 1] <= step) at += 1;
    return at < 0 ? 0 : columns.tokens_seen[at];
  }

  /**
   * The steps of a range of the horizontal axis.
   *
   * @param {[number, number]} range
   * @param {string} axis
   * @returns {[number, number]}
   */
  stepsOf([from, to], axis) {
    if (axis === "step") return [from, to];
    const inside = this.metrics.rows.filter((row) => row.tokens_seen >= from && row.tokens_seen <= to);
    return inside.length ? [inside[0].step, inside.at(-1).step] : [0, 0];
  }
}
