// The two heat maps of a probe, tokens × steps, one for each response; both share one color scale.

import { heatChanges, heatFigure, heatHeight, largestChange } from "../figures/heat.js";
import { $ } from "../lib/dom.js";
import { signed, visible } from "../lib/format.js";
import { Chart } from "./chart.js";

/** @import { ProbeHistory } from "../lib/probe-history.js" */

const NO_HEAT = { steps: [], tokens: [], logprobs: [] };

export class TokenHeatMaps {
  /**
   * @param {{id: number}} run
   * @param {(range: [number, number]) => unknown} onzoom called with the range of steps that is zoomed to
   */
  constructor(run, onzoom) {
    this.run = run;
    this.onzoom = onzoom;
    /** @type {ProbeHistory | null} */
    this.history = null;
    this.charts = [
      this.heatChart("preferred", "Tokens of the preferred response"),
      this.heatChart("dispreferred", "Tokens of the dispreferred response"),
    ];
  }

  append() {
    for (const chart of this.charts) chart.append();
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  /** @param {"preferred" | "dispreferred"} kind @param {string} title */
  heatChart(kind, title) {
    const rows = () => this.history[`${kind}Logprobs`];
    const tokens = () => this.history.probe[`${kind}_tokens`];
    return new Chart($(`#chart-heat-${kind}`), {
      title,
      name: `run-${this.run.id}-tokens-${kind}`,
      onzoom: this.onzoom,
      why:
        "Change of each token's log-probability since step 0, given the prompt and the tokens before it. " +
        "Blue gained, orange lost; both maps share one scale.",
      formula: "Δ log p(y_k | x, y_<k)",
      // The two maps are side by side, so both have the height that the longer response needs.
      height: () => {
        const probe = this.history?.probe;
        return heatHeight(probe ? Math.max(probe.preferred_tokens.length, probe.dispreferred_tokens.length) : 0);
      },
      figure: (colors) =>
        heatFigure(
          this.history?.steps.length > 1
            ? { steps: this.history.steps, tokens: tokens(), logprobs: rows(), limit: this.heatLimit() }
            : NO_HEAT,
          colors,
        ),
      describe: () =>
        this.history?.steps.length > 1
          ? heatChanges(rows(), tokens())
              .map((row, k) => `${visible(tokens()[k])}: ${signed(row.at(-1))}`)
              .slice(0, 20)
              .join(", ")
          : "",
      csv: () =>
        Object.fromEntries([
          ["step", this.history.steps],
          ...tokens().map((token, k) => [`${k + 1} ${token}`, rows().map((row) => row[k])]),
        ]),
    });
  }

  heatLimit() {
    const { probe, preferredLogprobs, dispreferredLogprobs } = this.history;
    return Math.max(
      largestChange(heatChanges(preferredLogprobs, probe.preferred_tokens)),
      largestChange(heatChanges(dispreferredLogprobs, probe.dispreferred_tokens)),
    );
  }
}
