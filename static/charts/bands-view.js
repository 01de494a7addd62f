// The charts of all probes together: quantile bands of their changes and margins, and the displaced fraction. The
// server computes the quantiles; while a run is active, new steps are requested every few seconds.

import { bandsFigure, displacedFigure, insertBands, joinBands } from "../figures/bands.js";
import { throttle } from "../lib/controls.js";
import { Detail, POINTS } from "../lib/detail.js";
import { DISPLACED_FORMULA } from "../lib/displaced.js";
import { $ } from "../lib/dom.js";
import { percent, signed } from "../lib/format.js";
import { Chart } from "./chart.js";

/** @import { Bands, Colors, QuantileName, Quantiles } from "../lib/types.js" */

const POLL_MS = 2000;
/** @type {QuantileName[]} */
const QUANTILES = ["q05", "q25", "q50", "q75", "q95"];

export class BandsView {
  /** @param {number} runId @param {(query: string) => Promise<Bands>} load requests /probes/bands */
  constructor(runId, load) {
    this.runId = runId;
    this.load = load;
    /** @type {Bands | null} */
    this.bands = null;
    this.detail = new Detail(load, (answer) => this.insert(answer));
    this.charts = [this.changeChart(), this.marginChart(), this.displacedChart()];
    this.updateSoon = throttle(() => this.update(), POLL_MS);
  }

  get steps() {
    return this.bands?.steps ?? [];
  }

  /**
   * @param {string} id
   * @param {any} options
   * @param {(colors: Colors) => {name: string, quantiles: Quantiles, color: string}[]} parts
   * @param {("preferred_change" | "dispreferred_change" | "margin")[]} names
   */
  quantileChart(id, options, parts, names) {
    const last = (name) => signed(this.bands?.[name].q50.at(-1));
    return new Chart($(id), {
      ...options,
      name: `run-${this.runId}-${id.slice("#chart-".length)}`,
      onzoom: (range) => this.detail.show(range).catch(() => {}),
      figure: (colors) => bandsFigure(this.steps, this.bands ? parts(colors) : [], colors, { title: "nats" }),
      describe: () => names.map((name) => `${name.replaceAll("_", " ")}: median now ${last(name)} nats`).join(", "),
      csv: () =>
        Object.fromEntries([
          ["step", this.steps],
          ...names.flatMap((name) => QUANTILES.map((q) => [`${name}_${q}`, this.bands[name][q]])),
        ]),
    });
  }

  changeChart() {
    return this.quantileChart(
      "#chart-bands",
      {
        title: "Change of log p over all probes",
        formula: "quantiles of Δ log p(y) over a fixed set of pairs",
        why:
          "The same pairs at every step: the median, half of the pairs around it, and 90 % of them. " +
          "Unlike the batches it is not confounded by which pairs a batch holds.",
      },
      (colors) => [
        { name: "preferred y+", quantiles: this.bands.preferred_change, color: colors.preferred },
        { name: "dispreferred y−", quantiles: this.bands.dispreferred_change, color: colors.dispreferred },
      ],
      ["preferred_change", "dispreferred_change"],
    );
  }

  marginChart() {
    return this.quantileChart(
      "#chart-bands-margin",
      {
        title: "Margin over all probes",
        formula: "m = Δ log p(y+) − Δ log p(y−)",
        why:
          "How much more the preferred response gained than the dispreferred one: the median over the " +
          "probes, half of them, and 90 % of them.",
      },
      (colors) => [{ name: "margin", quantiles: this.bands.margin, color: colors.ink }],
      ["margin"],
    );
  }

  displacedChart() {
    return new Chart($("#chart-bands-displaced"), {
      title: "Displaced probes",
      formula: DISPLACED_FORMULA,
      name: `run-${this.runId}-displaced-probes`,
      why: "The share of the probes whose preferred response lost likelihood while the margin grew.",
      onzoom: (range) => this.detail.show(range).catch(() => {}),
      figure: (colors) => displacedFigure(this.steps, this.bands?.displaced_fraction ?? [], colors),
      describe: () => `Now ${percent(this.bands?.displaced_fraction.at(-1))} of ${this.bands?.probes} probes.`,
      csv: () => ({ step: this.steps, displaced_fraction: this.bands.displaced_fraction }),
    });
  }

  /** Load the whole run. */
  async start() {
    const answer = await this.load(`points=${POINTS}`);
    this.detail.begin(answer);
    this.show(answer);
  }

  /** Shown from two probes on: quantiles of one probe say nothing. @param {Bands} bands */
  show(bands) {
    this.bands = bands;
    $("[data-bands]").hidden = bands.probes < 2;
    for (const chart of this.charts) chart.append();
  }

  /** Load the steps after the last known one. */
  async update() {
    if (!this.bands?.steps.length) return this.start().catch(() => {});
    try {
      const answer = await this.load(`points=${POINTS}&from_step=${this.steps.at(-1) + 1}`);
      this.show(joinBands(this.bands, answer));
    } catch {
      // The next update loads them.
    }
  }

  /** Insert the steps of a range at full resolution. @param {Bands} answer */
  insert(answer) {
    this.bands = insertBands(this.bands, answer);
    for (const chart of this.charts) chart.redraw();
  }
}
