// The pairs that a training run's filter kept and dropped: counts by epoch, answers beside preferred responses.

import { api } from "../../lib/api.js";
import { setQueryParameters } from "../../lib/controls.js";
import { $, $$, dataTable, h, problemNotice } from "../../lib/dom.js";
import { count, number, percent } from "../../lib/format.js";
import { newestOnly } from "../../lib/newest.js";
import { promptView, side, text } from "../../lib/pair-view.js";

const PAGE = 10;
const TYPING_MS = 300;
/** The filters, each with its value where the page's address names none. */
const FIELDS = { kept: "false", epoch: "", pair: "", search: "" };
const MOST_EPOCHS = 10_000;

export class FilterList {
  /** @param {number} runId @param {() => boolean} isOver whether the run has ended */
  constructor(runId, isOver) {
    this.at = `/runs/${runId}/filter-decisions`;
    this.isOver = isOver;
    const given = new URLSearchParams(location.search);
    this.offset = Number(given.get("offset") ?? 0) || 0;
    this.newest = newestOnly();
    /** What is shown, as JSON: a list that has not changed is left alone, with what is selected in it. */
    this.drawn = "";
    this.form = $("[data-filter-form]");
    // Those of the run are known with the first answer; the one that is asked for has to be one of them before.
    const epochs = Math.min(Number(given.get("epoch")) || 0, MOST_EPOCHS);
    this.offerEpochs(Array.from({ length: epochs }, (_, before) => ({ epoch: before + 1 })));
    for (const [name, value] of Object.entries(FIELDS)) this.form.elements[name].value = given.get(name) ?? value;
    let typing = 0;
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.move(0), TYPING_MS);
    });
  }

  /** The filters that are set, as parameters of the API. */
  wanted() {
    const given = Object.keys(FIELDS).map((name) => [name, this.form.elements[name].value.trim()]);
    return new URLSearchParams(given.filter(([, value]) => value !== ""));
  }

  move(offset) {
    this.offset = Math.max(0, offset);
    const set = Object.entries(FIELDS).map(([name, value]) => {
      const now = this.form.elements[name].value.trim();
      return [name, now === value ? null : now];
    });
    setQueryParameters({ ...Object.fromEntries(set), offset: this.offset || null });
    return this.show();
  }

  /** Load and draw this page of the decisions. */
  async show() {
    const query = this.wanted();
    for (const link of $$("[data-filter-download]")) {
      const download = new URLSearchParams(query);
      download.set("format", link.dataset.filterDownload);
      link.href = `/api/v1${this.at}?${download}`;
    }
    query.set("offset", String(this.offset));
    query.set("limit", String(PAGE));
    try {
      const page = await this.newest(api(`${this.at}?${query}`));
      if (!page) return;
      if (!page.items.length && this.offset && page.total) return this.move(this.offset - PAGE);
      this.draw(page);
    } catch (problem) {
      this.drawn = "";
      $("[data-filter-list]").replaceChildren(problemNotice(problem));
    }
  }

  draw(page) {
    const now = JSON.stringify([page, this.offset, this.isOver()]);
    if (now === this.drawn) return;
    this.drawn = now;
    this.form.hidden = !page.decisions;
    $("[data-filter-epochs]").replaceChildren(...(page.epochs.length ? [epochTable(page.epochs)] : []));
    this.offerEpochs(page.epochs);
    $("[data-filter-matching]").textContent = page.decisions
      ? `${count(page.total)} of ${count(page.decisions)} decisions`
      : "";
    const rows = page.items.length ? page.items.map(decisionView) : [h("p", { class: "quiet" }, this.nothing(page))];
    $("[data-filter-list]").replaceChildren(...rows);
    this.drawPager(page);
  }

  nothing(page) {
    if (page.decisions)
      return this.wanted().get("kept") === "false" ? "No such pair was dropped." : "No decision matches.";
    return this.isOver() ? "Nothing was decided." : "Decisions appear before the first epoch.";
  }

  offerEpochs(epochs) {
    const select = this.form.elements.epoch;
    const known = select.options.length - 1;
    for (const { epoch } of epochs.slice(known)) select.append(h("option", { value: String(epoch) }, String(epoch)));
  }

  drawPager({ total, items }) {
    const end = this.offset + items.length;
    const button = (label, disabled, target) =>
      h("button", { type: "button", disabled, onclick: () => this.move(target) }, label);
    const pager = $("[data-filter-pager]");
    if (total <= PAGE) return pager.replaceChildren();
    pager.replaceChildren(
      h("span", {}, `${count(this.offset + 1)}–${count(end)} of ${count(total)}`),
      h(
        "span",
        { class: "actions" },
        button("Previous", this.offset === 0, this.offset - PAGE),
        button("Next", end >= total, end),
      ),
    );
  }
}

function epochTable(epochs) {
  const head = ["Epoch", "Pairs before", "Dropped", "Left", "Mean reward, answers", "Mean reward, preferred"];
  return dataTable(
    head.map((name) => h("th", { class: "num", scope: "col" }, name)),
    epochs.map((one) =>
      h(
        "tr",
        {},
        [
          count(one.epoch),
          count(one.pairs),
          `${count(one.dropped)} (${percent(one.dropped / one.pairs)})`,
          count(one.pairs - one.dropped),
          number(one.mean_sample_reward, 4),
          number(one.mean_preferred_reward, 4),
        ].map((cell) => h("td", { class: "num" }, cell)),
      ),
    ),
  );
}

function decisionView(item) {
  const isUnanswered = item.text === null;
  const answer = isUnanswered
    ? h("p", { class: "quiet" }, "None: the prompt left no room for an answer.")
    : item.text
      ? text(item.text)
      : h("p", { class: "quiet" }, "an end token alone");
  const reward = (value) => h("p", { class: "quiet small" }, `reward ${number(value, 4)}`);
  return h(
    "article",
    { class: "pair", dataset: { kept: String(item.kept) } },
    h(
      "div",
      { class: "pair-head" },
      h("strong", {}, `Pair ${item.pair}`),
      h("span", {}, `before epoch ${item.epoch}`),
      h("span", { class: item.kept ? "tag" : "tag flagged" }, item.kept ? "kept" : "dropped"),
    ),
    promptView(item.prompt),
    h(
      "div",
      { class: "sides" },
      side("preferred", h("div", {}, text(item.preferred), reward(item.preferred_reward))),
      h(
        "div",
        { class: "side answer" },
        h("h3", {}, "The model’s answer"),
        answer,
        isUnanswered ? null : reward(item.sample_reward),
      ),
    ),
  );
}
