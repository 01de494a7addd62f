// One pair of a pre-flight: what its step does to the next token at the fork, and which tokens of y− pull y+ down.

import { Chart } from "../../charts/chart.js";
import { interferenceFigure } from "../../figures/preflight.js";
import { api } from "../../lib/api.js";
import { setQueryParameters } from "../../lib/controls.js";
import { $, dataTable, h } from "../../lib/dom.js";
import { count, number, probability, signed, visible } from "../../lib/format.js";
import { newestOnly } from "../../lib/newest.js";
import { promptView, side, text } from "../../lib/pair-view.js";
import { tokenView } from "../../lib/token-view.js";

const SHOWN_TOKENS = 10;
const SHOWN_PULLS = 5;

export class PairDetail {
  constructor(run) {
    this.run = run;
    this.pair = null;
    this.newest = newestOnly();
    /** @type {Chart | null} */
    this.chart = null;
  }

  /** Load and show a pair. @param {number} pair @param {string | null} trained the training run beside it */
  async show(pair, trained) {
    // Not every training run that is set beside the others trained on this pair.
    const query = trained ? `?train_run=${trained}` : "";
    const answer = api(`/runs/${this.run.id}/preflight/${pair}${query}`).catch((problem) => {
      if (!query || problem.status !== 422) throw problem;
      return api(`/runs/${this.run.id}/preflight/${pair}`);
    });
    const found = await this.newest(answer);
    if (!found) return;
    this.pair = found;
    setQueryParameters({ pair });
    const host = $("[data-pair-detail]");
    host.hidden = false;
    $("[data-pair-title]").textContent = `Pair ${pair}`;
    $("[data-pair-body]").replaceChildren(...this.body());
    this.chart ??= this.makeChart();
    this.chart.redraw();
    host.scrollIntoView({ block: "start" });
    host.focus({ preventScroll: true });
  }

  body() {
    const { pair } = this;
    return [
      h("p", {}, this.inWords()),
      h(
        "details",
        { class: "pair in-row" },
        h("summary", { class: "small" }, "The texts"),
        promptView(pair.prompt),
        h(
          "div",
          { class: "sides" },
          side("preferred", text(pair.preferred)),
          side("dispreferred", text(pair.dispreferred)),
        ),
        h("a", { href: `/datasets/${this.run.dataset_id}?pair=${pair.pair}#pair-${pair.pair}` }, "In the dataset"),
      ),
      h(
        "div",
        { class: "columns two" },
        tokenTable("Gain at the fork", pair.gainers),
        tokenTable("Lose at the fork", pair.losers),
      ),
    ];
  }

  inWords() {
    const { pair } = this;
    const measured = pair.measured_preferred_change;
    const after =
      measured === null
        ? "No training run from this model has measured this pair yet."
        : `After training it had changed by ${signed(measured)} nats, log p(y−) by ` +
          `${signed(pair.measured_dispreferred_change)}.`;
    return (
      `Its own first step ${pair.falls ? "lowers" : "raises"} log p(y+) by ` +
      `${number(Math.abs(pair.preferred_change))} nats and changes log p(y−) by ` +
      `${signed(pair.dispreferred_change)}. ${after}`
    );
  }

  makeChart() {
    return new Chart($("#chart-interference"), {
      title: "Which tokens of y− pull y+ down",
      name: `run-${this.run.id}-interference`,
      why:
        "Through the output head: how much lowering a token of y− (column) moves a token of y+ (row). Orange pulls " +
        "it down, blue raises it; the bars are the sums of the columns. Plain gradient descent lowers y+ where all " +
        "pulls exceed what raising y+ gives.",
      formula: "−(G₊G₋ᵀ)∘(H₊H₋ᵀ)",
      empty: "This model’s logits are not a linear function of its hidden states, so there is no such map.",
      figure: (colors, width) => interferenceFigure(this.pair, colors, { width, height: this.height() }),
      height: () => this.height(),
      describe: () => this.pulls(),
      note: () => this.pulls(),
      csv: () => ({
        "y+ token": this.pair.preferred_tokens,
        ...Object.fromEntries(
          this.pair.dispreferred_tokens.map((token, j) => [
            `${j + 1} ${token}`,
            this.pair.interference.map.map((row) => row[j]),
          ]),
        ),
      }),
    });
  }

  height() {
    return Math.max(280, Math.min(720, 180 + 18 * this.pair.preferred_tokens.length));
  }

  /** The column sums in a sentence. */
  pulls() {
    const { interference, dispreferred_tokens: tokens, head_own: own, head_pull: pull } = this.pair;
    if (!interference) return "";
    const most = interference.pulls
      .map((value, j) => ({ value, token: tokens[j], j }))
      .filter(({ value }) => value > 0)
      .sort((a, b) => b.value - a.value)
      .slice(0, SHOWN_PULLS)
      .map(({ value, token, j }) => `${visible(token)} (${count(j + 1)}) ${number(value)}`);
    const cut = interference.is_clipped ? " The first 256 tokens of each response are shown." : "";
    const strongest = most.length ? `Strongest pulls: ${most.join(", ")}.` : "No token of y− pulls y+ down.";
    return `Lowering y− takes ${number(pull)} from y+, raising y+ gives it ${number(own)}. ${strongest}${cut}`;
  }
}

function tokenTable(title, entries) {
  const rows = entries
    .slice(0, SHOWN_TOKENS)
    .map((entry) =>
      h(
        "tr",
        {},
        h("td", {}, tokenView(entry.token)),
        h("td", { class: "num" }, probability(entry.initial)),
        h("td", { class: "num" }, signed(entry.change, 2)),
      ),
    );
  return h(
    "div",
    {},
    h("h3", {}, title),
    rows.length
      ? dataTable([h("th", {}, "Token"), h("th", { class: "num" }, "P now"), h("th", { class: "num" }, "ΔP")], rows)
      : h("p", { class: "quiet" }, "No token."),
  );
}
