// The ledger at one step as a table with bars, a slider over the steps, and a button that plays.

import { Chart, downloads, explained } from "./chart.js";
import { h, saveFile, toCsv } from "./dom.js";
import { drawUp, flowFigure, flows, given, ledgerFigure } from "./figures/ledger.js";
import { palette } from "./figures/frame.js";
import { probability, probabilityChange, number } from "./format.js";
import { tokenView } from "./token-view.js";

const PLAY_MS = 7000;

export class LedgerView {
  /** fetchLedger(step): asks the API for the exact ledger of a step, puts it into the history. */
  constructor(host, flowHost, runId, fetchLedger) {
    this.fetchLedger = fetchLedger;
    this.runId = runId;
    this.history = null;
    this.index = -1;
    this.isFollowing = true;
    this.timer = 0;
    this.slider = h("input", { type: "range", min: "0", max: "0", value: "0", "aria-label": "Step of the ledger", oninput: () => { this.stop(); this.goTo(Number(this.slider.value)); } });
    this.play = h("button", { type: "button", onclick: () => (this.timer ? this.stop() : this.start()) }, "▶ Play");
    this.output = h("output", {});
    this.body = h("div", { class: "table-wrap" });
    this.balance = h("p", { class: "small quiet", style: "margin-top: 10px; max-width: none" });
    host.replaceChildren(
      h("div", { class: "card-head" },
        h("span", { class: "chart-title" }, h("h3", {}, "Where the probability went"), explained(
          "The ledger at the fork: what each token of the vocabulary gained or lost since step 0. All changes sum to zero. “Predicted” is the rank that theory gives the token for a small step.",
          "p_z (⟨W_z, d⟩ − Σ_v p_v ⟨W_v, d⟩),  d = W[y+] − W[y−]")),
        downloads(this)),
      h("div", { class: "stepper" }, this.play, this.slider, this.output),
      this.body, this.balance);
    this.flow = new Chart(flowHost, {
      title: "From and to", name: `run-${runId}-flow`,
      why: "The same ledger as one picture: what was lost on the left, what was gained on the right. Probability has no identity, so every loser gives to every gainer in proportion to its gain.",
      figure: (colors) => flowFigure(this.shownLedger(), colors, (entry) => colors[this.roleOf(entry)]),
      describe: () => { const { gainers, losers } = this.shownLedger(); const words = (entries) => entries.slice(0, 3).map((e) => `${e.token} ${probabilityChange(e.change)}`).join(", "); return `Lost: ${words(losers)}. Gained: ${words(gainers)}.`; },
      csv: () => { const { sources, targets, links } = flows(this.shownLedger()); const name = (node) => node.token ?? "(all others)"; return { from: links.map((l) => name(sources[l.source])), to: links.map((l) => name(targets[l.target])), probability: links.map((l) => l.value) }; },
      empty: "Nothing has moved yet.",
    });
    this.observer = new IntersectionObserver(([entry]) => { this.isVisible = entry.isIntersecting; if (this.isVisible && this.isDirty) this.render(); }, { rootMargin: "200px" });
    this.observer.observe(host);
  }

  show(history) {
    this.stop();
    this.history = history;
    this.isFollowing = true;
    this.update();
  }

  /** New steps are there; the view follows them while it stands at the last one. */
  update() {
    const last = this.history.lastIndex;
    this.slider.max = String(Math.max(0, last));
    if (this.isFollowing || this.index > last) this.index = last;
    this.slider.value = String(this.index);
    this.schedule();
  }

  goTo(index) {
    this.index = index;
    this.isFollowing = index === this.history.lastIndex;
    this.schedule();
    clearTimeout(this.fetching);
    const step = this.history.steps[index];
    if (!this.timer && !this.history.ledgers.has(step)) {
      const history = this.history;
      this.fetching = setTimeout(() => this.fetchLedger(history, step).then(() => this.history === history && this.schedule()).catch(() => {}), 120);
    }
  }

  start() {
    const count = this.history.steps.length;
    if (count < 2) return;
    if (this.index >= count - 1) this.index = 0;
    this.play.textContent = "❚❚ Pause";
    const from = this.index;
    const begin = performance.now();
    const tick = () => {
      const index = Math.min(count - 1, from + Math.floor(((performance.now() - begin) / PLAY_MS) * count));
      this.slider.value = String(index);
      this.goTo(index);
      if (index >= count - 1) this.stop();
    };
    this.timer = setInterval(tick, 60);
  }

  stop() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = 0;
    this.play.textContent = "▶ Play";
    this.goTo(this.index);
  }

  schedule() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; if (this.isVisible) this.render(); else this.isDirty = true; });
  }

  ledger() {
    const { history, index } = this;
    const step = history.steps[index];
    const own = history.ledgers.get(step);
    if (own) {
      return given(own.gainers, own.losers, own.rest, history.probe.watched);
    }
    const tokens = [...history.traced.values()].filter((entry) => entry.probs[index] !== null)
      .map((entry) => ({ ...entry, now: entry.probs[index] }));
    return drawUp(tokens);
  }

  shownLedger() {
    return this.history && this.index >= 0 ? this.ledger() : { gainers: [], losers: [], rest: 0 };
  }

  roleOf(entry) {
    if (entry.token === this.history.preferredToken) return "preferred";
    if (entry.token === this.history.dispreferredToken) return "dispreferred";
    return "other";
  }

  render() {
    this.isDirty = false;
    this.flow.redraw();
    const { history, index } = this;
    if (!history || index < 0) {
      this.body.replaceChildren(h("div", { class: "empty" }, "The first look at the probe is still to come."));
      this.balance.textContent = "";
      this.output.textContent = "";
      return;
    }
    this.output.textContent = `step ${history.steps[index]}`;
    const ledger = this.ledger();
    const all = [...ledger.gainers, ...ledger.losers];
    if (!all.length) {
      this.body.replaceChildren(h("div", { class: "empty" }, index === 0 ? "Step 0: nothing has moved yet." : "Nothing has moved."));
      this.balance.textContent = "";
      return;
    }
    const largest = Math.max(Math.abs(ledger.rest), ...all.map((entry) => Math.abs(entry.change)), this.largestEver());
    this.body.replaceChildren(h("table", { class: "ledger" },
      h("thead", {}, h("tr", {},
        h("th", {}, "Token"), h("th", { class: "num" }, "Before → now"), h("th", { class: "bar-head" }, h("span", {}, "lost"), h("span", {}, "gained")), h("th", { class: "num" }, "Change"), h("th", { class: "num narrow-hide" }, "Predicted"))),
      h("tbody", {},
        ledger.gainers.map((entry) => this.row(entry, largest)),
        this.restRow(ledger.rest, largest),
        [...ledger.losers].reverse().map((entry) => this.row(entry, largest)))));
    this.balance.textContent = this.summary(ledger);
  }

  /** So that bars do not jump to a new scale while the slider moves. */
  largestEver() {
    const last = this.history.ledgers.get(this.history.steps.at(-1));
    return last ? Math.max(0, ...[...last.gainers, ...last.losers].map((entry) => Math.abs(entry.change))) : 0;
  }

  row(entry, largest) {
    const role = this.roleOf(entry);
    const rank = entry.predictedRank;
    return h("tr", {},
      h("td", {}, tokenView(entry.token), role === "other" ? null : h("span", { class: `small ${role}-ink` }, role === "preferred" ? " y+" : " y−")),
      h("td", { class: "num" }, `${probability(entry.initial)} → ${probability(entry.now)}`),
      h("td", { class: "bar-cell" }, bar(entry.change / largest, role)),
      h("td", { class: "num" }, h("strong", {}, probabilityChange(entry.change))),
      h("td", { class: "num narrow-hide quiet" }, rank === null ? "–" : rank > 0 ? `gainer #${rank}` : `loser #${-rank}`));
  }

  restRow(rest, largest) {
    return h("tr", { class: "rest" },
      h("td", { class: "quiet" }, "all other tokens"), h("td", {}), h("td", { class: "bar-cell" }, bar(rest / largest, "other")),
      h("td", { class: "num" }, h("strong", {}, probabilityChange(rest))), h("td", { class: "narrow-hide" }));
  }

  summary(ledger) {
    const sum = (entries) => entries.reduce((total, entry) => total + entry.change, 0);
    const gains = sum(ledger.gainers);
    const losses = sum(ledger.losers);
    const moved = this.history.movedMass[this.index];
    const total = gains + losses + ledger.rest;
    return [
      `Gained ${probabilityChange(gains)}, lost ${probabilityChange(losses)}, all others ${probabilityChange(ledger.rest)}: together ${probabilityChange(Math.abs(total) < 5e-5 ? 0 : total).replace("+", "")}.`,
      Number.isFinite(moved) ? `In all, ${probability(moved)} of the probability moved.` : "",
      ledger.rankAgreement === null ? "" : `Rank agreement with the prediction: ρ = ${number(ledger.rankAgreement, 2)} over the tokens listed.`,
    ].filter(Boolean).join(" ");
  }

  async download(format) {
    if (!this.history || this.index < 0) return;
    const name = `run-${this.runId}-pair-${this.history.probe.pair}-ledger-step-${this.history.steps[this.index]}`;
    const ledger = this.ledger();
    if (format === "csv") {
      const rows = [...ledger.gainers, { token: "(all other tokens)", change: ledger.rest }, ...[...ledger.losers].reverse()];
      const column = (get) => rows.map(get);
      saveFile(`${name}.csv`, toCsv({ token_id: column((r) => r.token_id), token: column((r) => r.token), initial: column((r) => r.initial), now: column((r) => r.now), change: column((r) => r.change), predicted: column((r) => r.predicted), predicted_rank: column((r) => r.predictedRank) }), "text/csv");
      return;
    }
    const colors = palette();
    const figure = ledgerFigure(ledger, colors, (entry) => colors[this.roleOf(entry)]);
    figure.layout.paper_bgcolor = colors.surface;
    figure.layout.title = { text: `Where the probability went, step ${this.history.steps[this.index]}`, x: 0.01, font: { size: 15 } };
    figure.layout.margin.t = 56;
    await Plotly.downloadImage(figure, { format, filename: name, width: 1000, height: 120 + 26 * (ledger.gainers.length + ledger.losers.length), scale: format === "svg" ? 1 : 2 });
  }
}

/** part: −1 … 1 of half the width; to the right it gained. */
function bar(part, role) {
  const width = `${Math.min(1, Math.abs(part)) * 50}%`;
  const fill = h("i", { class: `fill ${role}` });
  fill.style.width = width;
  fill.style.left = part >= 0 ? "50%" : `calc(50% - ${width})`;
  return h("div", { class: "diverging", "aria-hidden": "true" }, fill);
}
