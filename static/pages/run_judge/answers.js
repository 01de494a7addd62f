// The judged answers, by verdict, by a text that they hold, or by another judge's disagreement.

import { api } from "../../lib/api.js";
import { setQueryParameters, throttle } from "../../lib/controls.js";
import { $, h, problemNotice } from "../../lib/dom.js";
import { count, number } from "../../lib/format.js";
import { newestOnly } from "../../lib/newest.js";
import { promptView, text } from "../../lib/pair-view.js";

const PAGE = 20;
const TYPING_MS = 300;

export class AnswerList {
  constructor(run) {
    const asked = new URLSearchParams(location.search);
    this.run = run;
    this.offset = Number(asked.get("offset") ?? 0);
    this.differsFrom = asked.get("differs_from") ?? "";
    this.newest = newestOnly();
    $("[data-verdict-filter]").value = asked.get("verdict") ?? "";
    $("[data-search]").value = asked.get("search") ?? "";
    const restart = () => this.restart();
    $("[data-filters]").addEventListener("submit", (event) => {
      event.preventDefault();
      restart();
    });
    $("[data-verdict-filter]").addEventListener("change", restart);
    $("[data-search]").addEventListener("input", throttle(restart, TYPING_MS));
    $("[data-differs-from]").addEventListener("change", () => {
      this.differsFrom = $("[data-differs-from]").value;
      restart();
    });
  }

  /** Let the answers be chosen on which another judge said the opposite. @param {any[]} others */
  offerOthers(others) {
    $("[data-differs]").hidden = others.length === 0;
    $("[data-differs-from]").replaceChildren(
      h("option", { value: "" }, "–"),
      ...others.map(({ second, first_only, second_only }) =>
        h(
          "option",
          { value: String(second.run_id), selected: String(second.run_id) === this.differsFrom },
          `${second.name} (${count(first_only + second_only)})`,
        ),
      ),
    );
  }

  restart() {
    this.offset = 0;
    return this.show();
  }

  /** Load and draw this page of the answers. */
  async show() {
    const filters = {
      verdict: $("[data-verdict-filter]").value || null,
      search: $("[data-search]").value.trim() || null,
      differs_from: this.differsFrom || null,
    };
    setQueryParameters({ ...filters, offset: this.offset || null });
    const query = new URLSearchParams({ offset: String(this.offset), limit: String(PAGE) });
    for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
    const host = $("[data-answers]");
    try {
      const page = await this.newest(api(`/runs/${this.run.id}/judgments?${query}`));
      if (!page) return;
      const isFiltered = Object.values(filters).some(Boolean);
      host.replaceChildren(...(page.items.length ? page.items.map(answerView) : [nothing(isFiltered)]));
      this.drawPager(page);
    } catch (problem) {
      host.replaceChildren(problemNotice(problem));
    }
  }

  drawPager({ total, items }) {
    const end = this.offset + items.length;
    const turn = (offset) => () => {
      this.offset = Math.max(0, offset);
      this.show();
    };
    const pager = $("[data-pager]");
    if (!total) return pager.replaceChildren();
    pager.replaceChildren(
      h("span", {}, `${count(this.offset + 1)}–${count(end)} of ${count(total)}`),
      h(
        "span",
        { class: "actions" },
        h("button", { type: "button", disabled: this.offset === 0, onclick: turn(this.offset - PAGE) }, "Previous"),
        h("button", { type: "button", disabled: end >= total, onclick: turn(end) }, "Next"),
      ),
    );
  }
}

function nothing(isFiltered) {
  return h("p", { class: "quiet" }, isFiltered ? "No answer passes these filters." : "Nothing is judged yet.");
}

const VERDICTS = { true: ["positive", "flagged"], false: ["negative", ""], null: ["no verdict", "doubt"] };

function answerView(item) {
  const [word, look] = VERDICTS[String(item.verdict)];
  const hasVerdict = item.verdict !== null || item.score === null;
  return h(
    "article",
    { class: "pair", dataset: { verdict: word } },
    h(
      "div",
      { class: "pair-head" },
      h("strong", {}, `Pair ${item.pair}`),
      h("span", {}, `sample ${item.sample}`),
      hasVerdict ? h("span", { class: `tag ${look}` }, word) : null,
      item.score === null ? null : h("span", {}, `score ${number(item.score, 4)}`),
      item.reason ? h("span", { class: "reason" }, item.reason) : null,
      item.ended ? null : h("span", { class: "quiet" }, "cut at the limit of tokens"),
    ),
    promptView(item.prompt),
    item.answer ? text(item.answer) : h("p", { class: "quiet" }, "(an empty answer)"),
  );
}
