// Storing and undoing verdicts. A verdict is shown at once and stored in the background; if that fails it is reverted,
// and if another reviewer decided first, both verdicts are shown.

import { api } from "../../lib/api.js";
import { $, h, problemNotice, toast } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import { verdictChip } from "./pair.js";
import { Progress } from "./progress.js";

export class Decisions {
  /**
   * @param {import("./queue.js").Queue} queue
   * @param {() => string} reviewer
   * @param {{
   *   onstored: (item: any) => void, redraw: () => void, open: (pair: number) => unknown, reload: () => Promise<void>,
   * }} page onstored: called when an item's request has ended; open: shows a pair; reload: loads the queue anew
   */
  constructor(queue, reviewer, page) {
    this.queue = queue;
    this.reviewer = reviewer;
    this.page = page;
    /** What can be undone, the last first. @type {{pair?: number, edit?: boolean, batch?: number}[]} */
    this.done = [];
    /** Pair → the promise of its last request. @type {Map<number, Promise<unknown>>} */
    this.sending = new Map();
    this.progress = new Progress(queue.root, this.sending);
  }

  /** All requests under way have ended. */
  settled() {
    return Promise.allSettled(this.sending.values());
  }

  /**
   * Show the verdict at once and store it: one request a pair at a time, in their order.
   *
   * @param {any} item of the queue
   * @param {{verdict: string, note?: string}} wanted
   */
  send(item, wanted) {
    const before = item.review;
    const reviewer = this.reviewer() || null;
    item.review = { ...before, verdict: wanted.verdict, note: wanted.note ?? before.note, reviewer };
    item.unsent = (item.unsent ?? 0) + 1;
    this.progress.tally(before.verdict, wanted.verdict);
    this.progress.given += 1;
    const request = (this.sending.get(item.pair) ?? Promise.resolve()).then(() => this.store(item, before, wanted));
    this.sending.set(item.pair, request);
    this.done.push({ pair: item.pair });
  }

  async store(item, before, wanted) {
    // An earlier verdict of this page, still under way when this one was given, has raised the version.
    const version = item.stored?.version ?? before.version;
    const reviewer = this.reviewer();
    let review = null;
    try {
      review = await api(`${this.queue.root}/pairs/${item.pair}/review`, {
        method: "PUT",
        body: { ...wanted, reviewer: reviewer || null, version },
      });
    } catch (problem) {
      this.forget(item.pair);
      this.revert(item, before, wanted, problem);
    }
    item.unsent -= 1;
    if (review) {
      item.stored = review;
      if (this.reviewer()) item.said = { ...item.said, [this.reviewer()]: review.verdict };
      if (!item.unsent) {
        item.review = review;
        delete item.draft;
      }
    }
    if (!item.unsent) {
      delete item.unsent;
      delete item.stored;
      this.sending.delete(item.pair);
    }
    this.page.onstored(item);
  }

  /** Drop the last undo step of a pair. @param {number} pair */
  forget(pair) {
    const at = this.done.findLastIndex((step) => step.pair === pair);
    if (at >= 0) this.done.splice(at, 1);
  }

  /** Show the stored verdict again instead of the refused one, with the reason. */
  revert(item, before, wanted, problem) {
    const theirs = problem.more?.current;
    item.review = theirs ?? item.stored ?? before;
    if (theirs) item.stored = undefined;
    this.progress.tally(wanted.verdict, item.review.verdict);
    const close = () => notice.remove();
    const again = () => {
      close();
      this.send(item, wanted);
      this.page.redraw();
    };
    const open = () => this.page.open(item.pair);
    const parts = theirs ? conflictParts(item, wanted, theirs) : failureParts(item, wanted, problem);
    const notice = h(
      "div",
      { class: `notice ${theirs ? "warn" : "bad"}`, role: "alert", "data-refused": item.pair },
      parts,
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onclick: again }, theirs ? `Overrule with “${wanted.verdict}”` : "Try again"),
        theirs ? h("button", { type: "button", onclick: close }, "Leave theirs") : null,
        h("button", { type: "button", onclick: open }, `Look at pair ${item.pair}`),
        theirs ? null : h("button", { type: "button", onclick: close }, "Dismiss"),
      ),
    );
    $(`[data-refused="${item.pair}"]`)?.remove();
    $("[data-notices]").append(notice);
  }

  /** Undo this page's last verdict, edit or bulk verdict. */
  async undo() {
    const last = this.done.pop();
    if (!last) {
      toast("There is nothing of yours to undo here.");
      return;
    }
    try {
      if (last.batch) {
        await this.undoBatch(last.batch);
        await this.page.reload();
      } else await this.undoPair(last.pair, last.edit);
    } catch (problem) {
      const theirs = problem.more?.current;
      if (theirs && this.queue.items.has(last.pair)) this.queue.items.get(last.pair).review = theirs;
      $("[data-notices]").append(dismissible(problem));
      this.page.redraw();
    }
    this.progress.refresh();
  }

  /** @param {number} batch */
  async undoBatch(batch) {
    const query = this.reviewer() ? `?reviewer=${encodeURIComponent(this.reviewer())}` : "";
    const { undone, kept } = await api(`${this.queue.root}/reviews/batches/${batch}/undo${query}`, { method: "POST" });
    const rest = kept ? `; ${count(kept)} were changed since and stay` : "";
    toast(`${count(undone)} pairs have their former verdict again${rest}.`);
  }

  /** @param {number} pair @param {boolean} wasEdit whether its text was edited */
  async undoPair(pair, wasEdit = false) {
    await this.sending.get(pair);
    const item = await this.queue.get(pair);
    const before = item.review.verdict;
    const review = await api(`${this.queue.root}/pairs/${pair}/review/undo`, {
      method: "POST",
      body: { reviewer: this.reviewer() || null, version: item.review.version },
    });
    this.progress.tally(before, review.verdict);
    delete item.draft;
    item.review = review;
    if (wasEdit) await this.queue.fetch([pair]);
    await this.page.open(pair);
    this.page.redraw();
    toast(`Pair ${pair}: ${review.verdict ?? "not reviewed"} again.`);
  }
}

/** Another reviewer decided first. */
function conflictParts(item, wanted, theirs) {
  return [
    h("strong", {}, `${theirs.reviewer || "Someone"} decided pair ${item.pair} before you`),
    h(
      "div",
      { class: "review-conflict" },
      verdictChip(theirs.verdict, theirs.reviewer ? `by ${theirs.reviewer}` : ""),
      theirs.note ? h("span", {}, `“${theirs.note}”`) : null,
      h("span", { class: "quiet" }, `Your “${wanted.verdict}” was not stored.`),
    ),
  ];
}

function failureParts(item, wanted, problem) {
  return [h("strong", {}, `Pair ${item.pair}: “${wanted.verdict}” could not be stored`), h("p", {}, problem.message)];
}

function dismissible(problem) {
  const notice = problemNotice(problem);
  const dismiss = () => notice.remove();
  notice.append(h("div", { class: "actions" }, h("button", { type: "button", onclick: dismiss }, "Dismiss")));
  return notice;
}
