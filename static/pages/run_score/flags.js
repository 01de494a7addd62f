// Flagging pairs for review: the top share by a measure, or those inside a drawn box or lasso; with undo.

import { api } from "../../lib/api.js";
import { $, $$, h, problemNotice } from "../../lib/dom.js";
import { count, percent } from "../../lib/format.js";
import { measureOf } from "../../lib/measures.js";

export class Flags {
  /**
   * @param {any} run
   * @param {any} state {summary, points, total, measure}, shared with the page
   * @param {{onchange: (pairs: Set<number>) => void, onform: () => void}} options onchange: called with the pairs that
   *   are flagged now; onform: called when what the form would flag has changed
   */
  constructor(run, state, { onchange, onform }) {
    this.run = run;
    this.state = state;
    this.onchange = onchange;
    this.path = `/datasets/${run.dataset_id}/flags`;
    this.selected = [];
    this.form = $("[data-flag-form]");
    this.bar = $("[data-brush]");
    if (!this.form) return;
    this.form.hidden = false;
    for (const links of $$("[data-next]")) links.hidden = false;
    this.form.addEventListener("input", () => {
      this.drawButton();
      onform();
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.replace({ measure: this.measure, top_fraction: this.part });
    });
    this.drawButton();
  }

  get measure() {
    return $("[data-flag-measure]").value;
  }

  get part() {
    return Number($("[data-flag-percent]").value) / 100;
  }

  /** How many pairs the form would flag. */
  get count() {
    const scored = this.state.summary?.measures[this.measure]?.count ?? 0;
    return Math.ceil(Math.round(this.part * scored * 1e6) / 1e6);
  }

  drawButton() {
    $("[data-flag]").textContent = `Flag ${count(this.count)} pair${this.count === 1 ? "" : "s"}`;
  }

  /** The value of the last pair that the form would flag, where the chart shows that measure. */
  threshold() {
    const { state } = this;
    if (!this.form || this.measure !== state.measure || !state.points.length) return null;
    if (state.points.length < state.total) return null;
    const sign = measureOf(state.measure).similar_end === "low" ? 1 : -1;
    const values = state.points
      .map((point) => point[state.measure])
      .filter(Number.isFinite)
      .sort((a, b) => sign * (a - b));
    return values[Math.min(values.length, this.count) - 1] ?? null;
  }

  /** Offer to flag or unflag the pairs of a drawn selection. @param {number[]} pairs */
  select(pairs) {
    // Clearing the selection after its pairs were flagged keeps the message about that.
    if (!this.form || (!pairs.length && !this.selected.length)) return;
    this.selected = pairs;
    const flagged = new Set(this.state.points.filter((point) => point.flagged).map((point) => point.pair));
    const added = pairs.filter((pair) => !flagged.has(pair));
    const removed = pairs.filter((pair) => flagged.has(pair));
    this.bar.replaceChildren(
      ...(pairs.length
        ? [
            h("strong", {}, `${count(pairs.length)} pair${pairs.length === 1 ? "" : "s"} selected`),
            added.length
              ? h(
                  "button",
                  {
                    type: "button",
                    class: "primary",
                    onclick: () => this.replace({ pairs: [...flagged, ...added] }),
                  },
                  `Flag ${count(added.length)}`,
                )
              : null,
            removed.length
              ? h(
                  "button",
                  {
                    type: "button",
                    onclick: () => this.replace({ pairs: [...flagged].filter((pair) => !removed.includes(pair)) }),
                  },
                  `Take the flag off ${count(removed.length)}`,
                )
              : null,
          ].filter(Boolean)
        : []),
    );
  }

  /** Replace the flags, keeping the former ones for undo. @param {Record<string, any>} wanted */
  async replace(wanted) {
    try {
      const before = await api(this.path);
      const queue = await this.send({ score_run: this.run.id, ...wanted });
      this.reportFlagged(queue, before);
    } catch (problem) {
      $("[data-problem]").replaceChildren(problemNotice(problem));
    }
  }

  /** An empty list of pairs deletes all flags. */
  async send(wanted) {
    if (wanted.pairs?.length === 0) {
      await api(this.path, { method: "DELETE" });
      return api(this.path);
    }
    return api(this.path, { method: "POST", body: wanted });
  }

  reportFlagged(queue, before) {
    const pairs = queue.items.map((flag) => flag.pair);
    this.selected = [];
    this.onchange(new Set(pairs));
    const share = percent(pairs.length / this.state.total, 1);
    const undo = async () => {
      const { score_run, measure, items } = before;
      try {
        const restored = await this.send({ score_run, measure, pairs: items.map((flag) => flag.pair) });
        this.onchange(new Set(restored.items.map((flag) => flag.pair)));
        this.bar.replaceChildren(h("span", { role: "status" }, "The flags are as they were before."));
      } catch (problem) {
        $("[data-problem]").replaceChildren(problemNotice(problem));
      }
    };
    this.bar.replaceChildren(
      h(
        "span",
        { role: "status" },
        `${count(pairs.length)} of ${count(this.state.total)} pairs (${share}) are flagged for review.`,
      ),
      h("button", { type: "button", onclick: undo }, "Undo"),
    );
  }
}
