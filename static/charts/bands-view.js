// All probes together: bands of their changes, their margin, and the displaced fraction. The store
// makes the quantiles; while a run goes on, what is new is asked for every few seconds.

import { bandsFigure, displacedFigure, insertBands, joinBands } from "../figures/bands.js";
import { throttle } from "../lib/controls.js";
import { Detail, POINTS } from "../lib/detail.js";
import { $ } from "../lib/dom.js";
import { percent, signed } from "../lib/format.js";
import { Chart } from "./chart.js";

const ASK_MS = 2000;
const QUANTILES = ["q05", "q25", "q50", "q75", "q95"];

export class BandsView {
  /** load(query): the answer of /probes/bands. */
  constructor(runId, load) {
    this.runId = runId;
    this.load = load;
    this.bands = null;
    this.detail = new Detail(load, (answer) => this.densify(answer));
    this.charts = [this.changeChart(), this.marginChart(), this.displacedChart()];
    this.askSoon = throttle(() => this.askNews(), ASK_MS);
  }

  get steps() {
    return this.bands?.steps ?? [];
  }

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
          "Unlike the batches it cannot be confounded by which pairs came along.",
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
      formula: "displaced: Δ log p(y+) < 0 < m",
      name: `run-${this.runId}-displaced-probes`,
      why: "The share of the probes whose preferred response lost likelihood while the margin grew.",
      onzoom: (range) => this.detail.show(range).catch(() => {}),
      figure: (colors) => displacedFigure(this.steps, this.bands?.displaced_fraction ?? [], colors),
      describe: () => `Now ${percent(this.bands?.displaced_fraction.at(-1))} of ${this.bands?.probes} probes.`,
      csv: () => ({ step: this.steps, displaced_fraction: this.bands.displaced_fraction }),
    });
  }

  /** Shown where there are two probes or more: the spread of one is no spread. */
  async start() {
    const answer = await this.load(`points=${POINTS}`);
    this.detail.begin(answer);
    this.take(answer);
  }

  take(answer) {
    this.bands = answer;
    $("[data-bands]").hidden = answer.probes < 2;
    for (const chart of this.charts) chart.append();
  }

  /** The steps since the last one that is known. */
  async askNews() {
    if (!this.bands?.steps.length) return this.start().catch(() => {});
    try {
      const answer = await this.load(`points=${POINTS}&from_step=${this.steps.at(-1) + 1}`);
      this.take(joinBands(this.bands, answer));
    } catch {
      // The next look will bring it.
    }
  }

  /** Steps between those that are known. */
  densify(answer) {
    this.bands = insertBands(this.bands, answer);
    for (const chart of this.charts) chart.redraw();
  }
}
