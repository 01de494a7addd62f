// The mass ledger of a probe: a step slider, the ledger at one step and one position as a table, and the two charts
// beside it.

import { ledgerFigure } from "../figures/ledger.js";
import { rankPairs } from "../figures/predicted.js";
import { choice, downloads, explained, segmented, setQueryParameters } from "../lib/controls.js";
import { toCsv } from "../lib/csv.js";
import { h, saveFile } from "../lib/dom.js";
import { number, probability, visible } from "../lib/format.js";
import { flowChart, PREDICTION_FORMULA, predictedChart } from "./ledger-charts.js";
import { LedgerSource, placeOf, placesOf } from "./ledger-source.js";
import { balanceOf, ledgerCsv, ledgerTable } from "./ledger-table.js";
import { palette } from "./palette.js";
import { savePicture } from "./picture.js";
import { StepPlayer } from "./step-player.js";

/** @import { ProbeHistory } from "../lib/probe-history.js" */
/** @import { Role } from "../lib/types.js" */
/** @import { Place } from "./ledger-source.js" */

const REQUEST_MS = 120;
const ADDRESS_MS = 400;
const NOTHING = { gainers: [], losers: [], rest: 0, rankAgreement: null };
const WHY =
  "The ledger at one position: what each token of the vocabulary gained or lost. All changes sum to zero. " +
  "“Predicted” is the rank that theory gives the token for a small step.";

/** @type {Record<string, string>} */
const PREDICTED_BY = {
  geometry: " Predicted by the geometry of the unembedding.",
  squeezing:
    " Predicted by squeezing: y− is pushed down alone, and the softmax moves its mass to the likeliest tokens.",
};

export class LedgerView {
  /**
   * @param {{ledger: HTMLElement, flow: HTMLElement, predicted: HTMLElement}} hosts
   * @param {number} runId
   * @param {(history: ProbeHistory, step: number, place: Place) => Promise<any>} load requests a ledger from the API
   */
  constructor(hosts, runId, load) {
    const query = new URLSearchParams(location.search);
    this.runId = runId;
    /** @type {ProbeHistory | null} */
    this.history = null;
    this.place = placeOf(query.get("at"));
    this.isRecent = query.get("since") === "previous";
    this.initialStep = query.has("step") ? Number(query.get("step")) : null;
    this.source = new LedgerSource(load, (history) => history === this.history && this.schedule());
    this.player = new StepPlayer(() => {
      this.schedule();
      this.requestSoon();
      this.updateAddressSoon();
    });
    this.body = h("div", { class: "table-wrap" });
    this.balance = h("p", { class: "small quiet balance" });
    this.options = h("div", { class: "filters" });
    hosts.ledger.replaceChildren(
      h(
        "div",
        { class: "card-head" },
        h(
          "span",
          { class: "chart-title" },
          h("h3", {}, "Where the probability went"),
          explained(WHY, PREDICTION_FORMULA),
        ),
        downloads(this),
      ),
      this.player.element,
      this.options,
      this.body,
      this.balance,
    );
    this.flow = flowChart(hosts.flow, this);
    this.predicted = predictedChart(hosts.predicted, this);
    this.isVisible = false;
    new IntersectionObserver(
      ([entry]) => {
        this.isVisible = entry.isIntersecting;
        if (!this.isVisible) return;
        if (this.isDirty) this.render();
        this.requestSoon();
      },
      { rootMargin: "200px" },
    ).observe(hosts.ledger);
  }

  /** Show another probe at its last step, or at first at the step in the address. @param {ProbeHistory} history */
  show(history) {
    this.history = history;
    this.player.reset(history.steps, this.initialStep);
    this.initialStep = null;
    if (this.place && !history.probe[`${this.place.response}_tokens`][this.place.position]) this.place = null;
    this.drawnOptions = "";
    this.update();
  }

  /** The history has new steps or ledgers. */
  update() {
    this.player.setSteps(this.history.steps);
    this.schedule();
    this.requestSoon();
  }

  get index() {
    return this.player.index;
  }

  get step() {
    return this.history?.steps[this.index];
  }

  /** Throttled while the slider moves; LedgerSource sends one request at a time. */
  requestSoon() {
    if (this.requestTimer) return;
    this.requestTimer = setTimeout(() => {
      this.requestTimer = 0;
      if (this.history && this.isVisible) this.source.request(this.history, this.step, this.place);
    }, REQUEST_MS);
  }

  updateAddressSoon() {
    clearTimeout(this.addressTimer);
    this.addressTimer = setTimeout(
      () =>
        setQueryParameters({
          step: this.player.isFollowing ? null : this.step,
          since: this.isRecent ? "previous" : null,
          at: this.place ? `${this.place.response}:${this.place.position}` : null,
        }),
      ADDRESS_MS,
    );
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.isDirty = true;
      if (this.isVisible) this.render();
    });
  }

  ledger() {
    if (!this.history || this.index < 0) return null;
    return this.source.ledger(this.history, this.index, { place: this.place, isRecent: this.isRecent });
  }

  shown() {
    return this.ledger() ?? NOTHING;
  }

  /** The ledger against step 0 at this step and position, whatever it is compared with in the table. */
  wholeLedger() {
    return this.source.ledger(this.history, this.index, { place: this.place });
  }

  /** The top predicted and the top actual gainers. */
  rankPairs() {
    if (!this.history || this.index < 1) return [];
    const predicted = this.source.predicted(this.history, this.index, this.place);
    return predicted.length ? rankPairs(predicted, this.wholeLedger()?.gainers ?? []) : [];
  }

  /** Which response the token continues at this position. @returns {Role} */
  roleOf(/** @type {{token: string | null}} */ entry) {
    const { preferredToken, dispreferredToken, probe } = this.history;
    const here = this.place && probe[`${this.place.response}_tokens`][this.place.position];
    if (this.place) return entry.token === here ? this.place.response : "other";
    if (entry.token === preferredToken) return "preferred";
    return entry.token === dispreferredToken ? "dispreferred" : "other";
  }

  render() {
    this.isDirty = false;
    this.requestSoon();
    this.drawOptions();
    this.flow.redraw();
    this.predicted.redraw();
    if (!this.history || this.index < 0) return this.showMessage("The probe has not been recorded yet.");
    const ledger = this.ledger();
    if (!ledger) return this.showMessage(this.whyEmpty());
    const all = [...ledger.gainers, ...ledger.losers];
    if (!all.length)
      return this.showMessage(this.index === 0 ? "Step 0: nothing has moved yet." : "Nothing has moved.");
    const largest = Math.max(Math.abs(ledger.rest ?? 0), ...all.map((e) => Math.abs(e.change)), this.largestLast());
    this.body.replaceChildren(ledgerTable(ledger, largest, (entry) => this.roleOf(entry)));
    const since = this.isRecent ? `Since step ${ledger.since}: ` : "";
    this.balance.textContent = since + balanceOf(ledger) + this.aboutPosition();
  }

  /** The likeliest token at this step, and what the prediction at this position follows from. */
  aboutPosition() {
    const response = this.source.response(this.history, this.step, this.place);
    const { argmax_token: argmax, argmax_logprob: logprob, prediction_kind: kind, kl } = response ?? {};
    const likeliest = argmax ? ` Likeliest: “${visible(argmax)}” (${probability(Math.exp(logprob))}).` : "";
    const distance = kl == null ? "" : ` KL divergence from step 0: ${number(kl)} nats.`;
    return likeliest + distance + (PREDICTED_BY[kind] ?? "");
  }

  whyEmpty() {
    const response = this.source.response(this.history, this.step, this.place);
    if (response === undefined) return "Loading…";
    if (this.isRecent && this.index === 0) return "Step 0 has no record before it.";
    return "No ledger was recorded here at this step.";
  }

  /** @param {string} message */
  showMessage(message) {
    this.body.replaceChildren(h("div", { class: "empty" }, message));
    this.balance.textContent = "";
  }

  /** The controls of what this run recorded: the reference step and the position. */
  drawOptions() {
    if (!this.history) return;
    const response = this.source.response(this.history, this.step, this.place);
    const places = placesOf(response ?? this.lastResponse, this.history.probe);
    if (response) this.lastResponse = response;
    const hasRecent = this.isRecent || this.lastResponse?.recent !== undefined;
    const key = JSON.stringify([places, hasRecent, this.history.probe.pair]);
    if (key === this.drawnOptions) return;
    this.drawnOptions = key;
    const at = this.place ? `${this.place.response}:${this.place.position}` : "fork";
    const chosen = () => {
      this.schedule();
      this.requestSoon();
      this.updateAddressSoon();
    };
    this.options.replaceChildren(
      ...(hasRecent
        ? [
            segmented(
              "Compared with",
              [
                ["start", "since start"],
                ["previous", "since previous record"],
              ],
              this.isRecent ? "previous" : "start",
              (base) => {
                this.isRecent = base === "previous";
                chosen();
              },
            ),
          ]
        : []),
      ...(places.length > 1
        ? [
            h(
              "span",
              { class: "inline" },
              "at",
              choice("Position of the ledger", places, at, (value) => {
                this.place = placeOf(value);
                chosen();
              }),
            ),
          ]
        : []),
    );
  }

  /** The last step's largest change, so that the bars keep their scale while the slider moves. */
  largestLast() {
    if (this.isRecent || this.place) return 0;
    const last = this.history.ledgers.get(this.history.steps.at(-1));
    return last ? Math.max(0, ...[...last.gainers, ...last.losers].map((entry) => Math.abs(entry.change))) : 0;
  }

  /** @param {string} format "png", "svg" or "csv" */
  async download(format) {
    const ledger = this.ledger();
    if (!ledger) return;
    const at = this.place ? `-${this.place.response}-${this.place.position + 1}` : "";
    const name = `run-${this.runId}-pair-${this.history.probe.pair}-ledger${at}-step-${this.step}`;
    if (format === "csv") {
      saveFile(`${name}.csv`, toCsv(ledgerCsv(ledger)), "text/csv");
      return;
    }
    const colors = palette();
    const figure = ledgerFigure(ledger, colors, (entry) => colors[this.roleOf(entry)]);
    figure.layout.paper_bgcolor = colors.surface;
    figure.layout.title = { text: `Where the probability went, step ${this.step}`, x: 0.01, font: { size: 15 } };
    figure.layout.margin.t = 56;
    const height = 120 + 26 * (ledger.gainers.length + ledger.losers.length);
    await savePicture(figure, { name, format, width: 1000, height });
  }
}
