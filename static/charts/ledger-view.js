// Where the probability went: the ledger at one step and one position as a table, as a flow from
// before to after, and beside what theory predicted.

import { flowFigure, flows } from "../figures/flow.js";
import { palette } from "../figures/frame.js";
import { ledgerFigure } from "../figures/ledger.js";
import { hits, predictedFigure, rankPairs } from "../figures/predicted.js";
import { choice, downloads, explained, remember, segmented } from "../lib/controls.js";
import { h, saveFile, toCsv } from "../lib/dom.js";
import { number, probabilityChange, visible } from "../lib/format.js";
import { Chart } from "./chart.js";
import { LedgerSource, placeOf, placesOf } from "./ledger-source.js";
import { balanceOf, ledgerCsv, ledgerTable } from "./ledger-table.js";
import { savePicture } from "./picture.js";
import { StepPlayer } from "./step-player.js";

const ASK_MS = 120;
const NOTHING = { gainers: [], losers: [], rest: 0, rankAgreement: null };
const WHY =
  "The ledger at one position: what each token of the vocabulary gained or lost. All changes sum to zero. " +
  "“Predicted” is the rank that theory gives the token for a small step.";
const FORMULA = "p_z (⟨W_z, d⟩ − Σ_v p_v ⟨W_v, d⟩),  d = W[y+] − W[y−]";

export class LedgerView {
  /** ask(history, step, place): the API's ledger. hosts: {ledger, flow, predicted}. */
  constructor(hosts, runId, ask) {
    const asked = new URLSearchParams(location.search);
    this.runId = runId;
    this.history = null;
    this.place = placeOf(asked.get("at"));
    this.isRecent = asked.get("since") === "previous";
    this.askedStep = asked.has("step") ? Number(asked.get("step")) : null;
    this.source = new LedgerSource(ask, (history) => history === this.history && this.schedule());
    this.player = new StepPlayer(() => {
      this.schedule();
      this.askSoon();
      this.rememberSoon();
    });
    this.body = h("div", { class: "table-wrap" });
    this.balance = h("p", { class: "small quiet balance" });
    this.options = h("div", { class: "filters" });
    hosts.ledger.replaceChildren(
      h(
        "div",
        { class: "card-head" },
        h("span", { class: "chart-title" }, h("h3", {}, "Where the probability went"), explained(WHY, FORMULA)),
        downloads(this),
      ),
      this.player.element,
      this.options,
      this.body,
      this.balance,
    );
    this.flow = this.flowChart(hosts.flow);
    this.predicted = this.predictedChart(hosts.predicted);
    this.isVisible = false;
    new IntersectionObserver(
      ([entry]) => {
        this.isVisible = entry.isIntersecting;
        if (!this.isVisible) return;
        if (this.isDirty) this.render();
        this.askSoon();
      },
      { rootMargin: "200px" },
    ).observe(hosts.ledger);
  }

  flowChart(host) {
    const words = (entries) =>
      entries
        .slice(0, 3)
        .map((entry) => `${visible(entry.token)} ${probabilityChange(entry.change)}`)
        .join(", ");
    const name = (node) => node.token ?? "(all others)";
    return new Chart(host, {
      title: "From before to after",
      name: `run-${this.runId}-flow`,
      empty: "Nothing has moved yet.",
      why:
        "The same ledger as one balanced picture: what was lost on the left, what was gained on the right. " +
        "Probability has no identity, so every loser gives to every gainer in proportion to its gain.",
      formula: "flow(a → b) = loss(a) · gain(b) / Σ gains",
      figure: (colors) => flowFigure(this.shown(), colors, (entry) => colors[this.roleOf(entry)]),
      describe: () => `Lost: ${words(this.shown().losers)}. Gained: ${words(this.shown().gainers)}.`,
      csv: () => {
        const { sources, targets, links } = flows(this.shown());
        return {
          from: links.map((link) => name(sources[link.source])),
          to: links.map((link) => name(targets[link.target])),
          probability: links.map((link) => link.value),
        };
      },
    });
  }

  predictedChart(host) {
    const color = (colors) => (pair) => colors[this.roleOf(pair)];
    return new Chart(host, {
      title: "Predicted and actual gainers",
      name: `run-${this.runId}-predicted`,
      why:
        "Theory says for a small step which tokens gain most at the fork; beside it the tokens that did. " +
        "Hollow points are in one of the two lists only.",
      formula: FORMULA,
      empty: "Nothing is predicted here: the prediction needs two responses and holds at their fork.",
      figure: (colors) => predictedFigure(this.pairs(), colors, color(colors)),
      note: () => this.predictionInWords(),
      describe: () => this.predictionInWords(),
      csv: () => {
        const pairs = this.pairs();
        return {
          token_id: pairs.map((pair) => pair.token_id),
          token: pairs.map((pair) => pair.token),
          predicted_rank: pairs.map((pair) => pair.predictedRank),
          actual_rank: pairs.map((pair) => pair.actualRank),
          actual_change: pairs.map((pair) => pair.change),
        };
      },
    });
  }

  /** A probe is shown from now on; its last step, or at first the one that the address names. */
  show(history) {
    this.history = history;
    this.player.reset(history.steps, this.askedStep);
    this.askedStep = null;
    if (this.place && !history.probe[`${this.place.response}_tokens`][this.place.position]) this.place = null;
    this.drawnOptions = "";
    this.update();
  }

  /** New steps or numbers are there. */
  update() {
    this.player.take(this.history.steps);
    this.schedule();
    this.askSoon();
  }

  get index() {
    return this.player.index;
  }

  get step() {
    return this.history?.steps[this.index];
  }

  /** While someone moves on, nothing is asked; nor more often than it can be answered. */
  askSoon() {
    if (this.asking) return;
    this.asking = setTimeout(() => {
      this.asking = 0;
      if (this.history && this.isVisible) this.source.want(this.history, this.step, this.place);
    }, ASK_MS);
  }

  rememberSoon() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(
      () =>
        remember({
          step: this.player.isFollowing ? null : this.step,
          since: this.isRecent ? "previous" : null,
          at: this.place ? `${this.place.response}:${this.place.position}` : null,
        }),
      400,
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

  pairs() {
    if (!this.history || this.index < 1) return [];
    const whole = this.source.ledger(this.history, this.index, { place: this.place });
    const predicted = this.source.predicted(this.history, this.index, this.place);
    return predicted.length ? rankPairs(predicted, whole?.gainers ?? []) : [];
  }

  predictionInWords() {
    const pairs = this.pairs();
    const { of, predicted } = hits(pairs);
    if (!of) return "";
    const whole = this.source.ledger(this.history, this.index, { place: this.place });
    const agreement = whole?.rankAgreement;
    return (
      `Theory named ${predicted} of the top ${of} gainers.` +
      (Number.isFinite(agreement) ? ` Rank agreement ρ = ${number(agreement, 2)}.` : "")
    );
  }

  roleOf(entry) {
    const { preferredToken, dispreferredToken, probe } = this.history;
    const here = this.place && probe[`${this.place.response}_tokens`][this.place.position];
    if (this.place) return entry.token === here ? this.place.response : "other";
    if (entry.token === preferredToken) return "preferred";
    return entry.token === dispreferredToken ? "dispreferred" : "other";
  }

  render() {
    this.isDirty = false;
    this.askSoon();
    this.drawOptions();
    this.flow.redraw();
    this.predicted.redraw();
    if (!this.history || this.index < 0) return this.say("The first look at the probe is still to come.");
    const ledger = this.ledger();
    if (!ledger) return this.say(this.whyNothing());
    const all = [...ledger.gainers, ...ledger.losers];
    if (!all.length) return this.say(this.index === 0 ? "Step 0: nothing has moved yet." : "Nothing has moved.");
    const largest = Math.max(Math.abs(ledger.rest), ...all.map((e) => Math.abs(e.change)), this.largestEver());
    this.body.replaceChildren(ledgerTable(ledger, largest, (entry) => this.roleOf(entry)));
    this.balance.textContent = (this.isRecent ? `Since step ${ledger.since}: ` : "") + balanceOf(ledger);
  }

  whyNothing() {
    const answer = this.source.answer(this.history, this.step, this.place);
    if (answer === undefined) return "Asking…";
    if (this.isRecent && this.index === 0) return "Step 0 has no record before it.";
    return "No ledger was recorded here at this step.";
  }

  say(words) {
    this.body.replaceChildren(h("div", { class: "empty" }, words));
    this.balance.textContent = "";
  }

  /** What can be chosen, as far as this run recorded it. */
  drawOptions() {
    if (!this.history) return;
    const answer = this.source.answer(this.history, this.step, this.place);
    const places = placesOf(answer ?? this.lastAnswer, this.history.probe);
    if (answer) this.lastAnswer = answer;
    const hasRecent = answer?.recent !== undefined || this.isRecent || this.lastAnswer?.recent !== undefined;
    const key = JSON.stringify([places, hasRecent, this.history.probe.pair]);
    if (key === this.drawnOptions) return;
    this.drawnOptions = key;
    const at = this.place ? `${this.place.response}:${this.place.position}` : "fork";
    const chosen = () => {
      this.schedule();
      this.askSoon();
      this.rememberSoon();
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

  /** So that bars do not jump to a new scale while the slider moves. */
  largestEver() {
    if (this.isRecent || this.place) return 0;
    const last = this.history.ledgers.get(this.history.steps.at(-1));
    return last ? Math.max(0, ...[...last.gainers, ...last.losers].map((entry) => Math.abs(entry.change))) : 0;
  }

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
