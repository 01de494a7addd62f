// The pairs of a score run, sorted, with a token-level diff of the two responses.

import { api } from "../../lib/api.js";
import { setQueryParameters } from "../../lib/controls.js";
import { diff, tokensOf } from "../../lib/diff.js";
import { $, dataTable, h, problemNotice } from "../../lib/dom.js";
import { aligned, count } from "../../lib/format.js";
import { columnLabels } from "../../lib/measures.js";
import { newestOnly } from "../../lib/newest.js";
import { promptView, side } from "../../lib/pair-view.js";

const PAGE = 25;

/** The columns with the length gap next to both forms of CHES, which it explains in part. */
function besideLength(columns) {
  const isGap = ([name]) => name === "length_gap";
  const others = columns.filter((column) => !isGap(column));
  const at = others.findIndex(([name]) => name === "ln_ches") + 1;
  return [...others.slice(0, at), ...columns.filter(isGap), ...others.slice(at)];
}

export class ScoreTable {
  constructor(run) {
    const asked = new URLSearchParams(location.search);
    this.run = run;
    this.onPhones = new Set(["pair", run.kind === "score" ? "ches" : "preferred_logprob"]);
    this.sort = asked.get("sort") ?? (run.kind === "score" ? "-ches" : "pair");
    this.offset = Number(asked.get("offset") ?? 0);
    this.newest = newestOnly();
  }

  /** Load and draw this page of the pairs; returns how many there are in all, or null where that failed or was
   * overtaken by a later call. */
  async show() {
    const host = $("[data-scores]");
    const query = `sort=${encodeURIComponent(this.sort)}&offset=${this.offset}&limit=${PAGE}&with_text=true`;
    let page;
    try {
      page = await this.newest(api(`/runs/${this.run.id}/scores?${query}`));
    } catch (problem) {
      host.replaceChildren(problemNotice(problem));
      return null;
    }
    if (!page) return null;
    if (!page.total) {
      const isActive = ["queued", "running"].includes(this.run.status);
      const words = isActive ? "Scores appear as they are computed." : "This run has no scores.";
      host.replaceChildren(h("p", { class: "quiet" }, words));
      return 0;
    }
    host.replaceChildren(this.table(page.items));
    this.drawPager(page);
    return page.total;
  }

  table(items) {
    /** @type {[string, string][]} */
    const all = [["pair", "Pair"], ...besideLength(columnLabels())];
    const columns = all.filter(([name]) => name === "pair" || items.some((item) => item[name] !== null));
    const formatOf = (name) => (name === "pair" ? count : aligned(items.map((item) => item[name])));
    const formats = Object.fromEntries(columns.map(([name]) => [name, formatOf(name)]));
    return dataTable(
      [
        columns.map(([name, label]) => this.sortable(name, label)),
        h("th", { class: "num narrow-hide" }, "Tokens y+ / y−"),
        h("th", {}, "Responses"),
      ],
      items.map((item) => this.row(item, columns, formats)),
    );
  }

  drawPager(page) {
    const to = this.offset + page.items.length;
    const button = (label, disabled, offset) =>
      h("button", { type: "button", disabled, onclick: () => this.move(offset) }, label);
    $("[data-pager]").replaceChildren(
      h("span", {}, `${count(this.offset + 1)}–${count(to)} of ${count(page.total)}`),
      h(
        "span",
        { class: "actions" },
        button("Previous", this.offset === 0, this.offset - PAGE),
        button("Next", to >= page.total, this.offset + PAGE),
      ),
    );
  }

  numberClass(name) {
    return `num${this.onPhones.has(name) ? "" : " narrow-hide"}`;
  }

  sortable(name, label) {
    const isUp = this.sort === name;
    const isDown = this.sort === `-${name}`;
    const sort = () => {
      this.sort = isDown ? name : `-${name}`;
      this.move(0);
    };
    return h(
      "th",
      {
        class: this.numberClass(name),
        "aria-sort": isUp ? "ascending" : isDown ? "descending" : null,
      },
      h("button", { type: "button", onclick: sort }, label, isUp ? " ↑" : isDown ? " ↓" : ""),
    );
  }

  move(offset) {
    this.offset = Math.max(0, offset);
    setQueryParameters({ sort: this.sort, offset: this.offset });
    this.show();
  }

  row(item, columns, formats) {
    const cell = h("td", { colspan: columns.length + 2 });
    const detail = h("tr", { hidden: true }, cell);
    const toggle = () => {
      detail.hidden = !detail.hidden;
      open.setAttribute("aria-expanded", String(!detail.hidden));
      open.textContent = detail.hidden ? "▸" : "▾";
      if (!detail.hidden) cell.replaceChildren(this.diffView(item));
    };
    const open = h(
      "button",
      {
        type: "button",
        class: "icon",
        "aria-expanded": "false",
        onclick: toggle,
        "aria-label": `Compare the responses of pair ${item.pair}`,
      },
      "▸",
    );
    const responses = h(
      "div",
      { class: "small responses" },
      item.flagged ? h("span", { class: "tag flagged" }, "⚑ flagged") : null,
      h("div", { class: "clip one" }, h("span", { class: "preferred-ink" }, "y+ "), item.preferred),
      h("div", { class: "clip one" }, h("span", { class: "dispreferred-ink" }, "y− "), item.dispreferred),
    );
    const row = h(
      "tr",
      { class: "expandable", dataset: { pair: item.pair } },
      columns.map(([name]) => h("td", { class: this.numberClass(name) }, formats[name](item[name]))),
      h(
        "td",
        { class: "num narrow-hide quiet" },
        `${count(item.preferred_tokens)} / ${count(item.dispreferred_tokens)}`,
      ),
      h("td", {}, h("div", { class: "opened" }, open, responses)),
    );
    row.addEventListener("click", (event) => {
      if (!(/** @type {Element} */ (event.target).closest("button, a")) && !getSelection().toString()) toggle();
    });
    return [row, detail];
  }

  diffView(item) {
    const preferred = tokensOf(item.preferred, item.preferred_ends);
    const dispreferred = tokensOf(item.dispreferred, item.dispreferred_ends);
    const shared = diff(preferred, dispreferred);
    const classOf = (isShared, k) => `${isShared ? "same" : "only"}${k === shared.fork ? " fork" : ""}`;
    const marked = (tokens, isShared) =>
      h(
        "div",
        { class: "diff", tabindex: "0" },
        tokens.map((token, k) =>
          h("span", { class: classOf(isShared[k], k), title: k === shared.fork ? "the fork" : null }, token),
        ),
      );
    const alike = shared.a.filter(Boolean).length;
    return h(
      "div",
      { class: "pair in-row" },
      h(
        "div",
        { class: "pair-head" },
        `${alike} of ${preferred.length} preferred and ${dispreferred.length} dispreferred tokens are shared; ` +
          `the fork is at token ${shared.fork + 1}.`,
        h("a", { href: `/datasets/${this.run.dataset_id}?pair=${item.pair}` }, "Open in the dataset"),
        h(
          "a",
          { href: `/datasets/${this.run.dataset_id}/new?kind=preflight&like=${this.run.id}&pairs=${item.pair}` },
          "Pre-flight this pair",
        ),
      ),
      promptView(item.prompt),
      h(
        "div",
        { class: "sides" },
        side("preferred", marked(preferred, shared.a)),
        side("dispreferred", marked(dispreferred, shared.b)),
      ),
    );
  }
}
