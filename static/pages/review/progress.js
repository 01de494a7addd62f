// The review's progress: verdicts so far, agreement of reviewers, disputes.

import { api } from "../../lib/api.js";
import { $, h } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import { VERDICTS, verdictChip } from "./pair.js";

export class Progress {
  /** @param {string} root the dataset's API path @param {Map<number, Promise<unknown>>} sending requests under way */
  constructor(root, sending) {
    this.root = root;
    this.sending = sending;
    this.progress = null;
    /** Verdicts given so far on this page. */
    this.given = 0;
  }

  /** Load the progress anew, until no verdict was given meanwhile that the response may lack. */
  async refresh() {
    try {
      let found;
      let before;
      do {
        before = this.given;
        await Promise.allSettled(this.sending.values());
        found = await api(`${this.root}/reviews/progress`);
      } while (before !== this.given);
      this.progress = found;
      this.draw();
    } catch {
      // The next refresh tries again.
    }
  }

  /** Count a changed verdict at once, before the server has stored it; null: not reviewed. */
  tally(from, to) {
    if (!this.progress || from === to) return;
    if (from) this.progress.verdicts[from] -= 1;
    else this.progress.reviewed += 1;
    if (to) this.progress.verdicts[to] += 1;
    else this.progress.reviewed -= 1;
    this.draw();
  }

  draw() {
    const {
      pairs,
      reviewed,
      verdicts,
      flagged,
      flagged_reviewed: flaggedReviewed,
      disputed,
      agreement,
    } = this.progress;
    const names = Object.keys(VERDICTS);
    const bar = h(
      "div",
      { class: "verdict-bar", "aria-hidden": "true" },
      names.map((name) => {
        const part = h("i", { class: `v-${name}` });
        part.style.width = `${(100 * verdicts[name]) / Math.max(1, pairs)}%`;
        return part;
      }),
    );
    const both = agreement.reduce((sum, item) => sum + item.pairs, 0);
    const agreed = agreement.reduce((sum, item) => sum + item.agreed, 0);
    const kappas = agreement
      .filter((item) => item.kappa !== null)
      .map((item) => `${item.reviewers.join(" and ")}: κ ${item.kappa.toFixed(2)} on ${item.pairs}`);
    $("[data-progress]").replaceChildren(
      bar,
      h(
        "div",
        { class: "facts-line" },
        h("span", {}, h("strong", {}, count(reviewed)), ` of ${count(pairs)} reviewed`),
        names
          .filter((name) => verdicts[name])
          .map((name) => h("span", { "data-count": name }, verdictChip(name), ` ${count(verdicts[name])}`)),
        flagged ? h("span", {}, `⚑ ${count(flaggedReviewed)} of ${count(flagged)} flagged`) : null,
        both ? h("span", { title: kappas.join("; ") }, `reviewers agree on ${count(agreed)} of ${count(both)}`) : null,
        disputed ? h("span", { class: "note-ink" }, `${count(disputed)} disputed`) : null,
      ),
    );
  }
}
