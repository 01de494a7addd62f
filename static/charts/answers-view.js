// The list of the model's own answers to a probe's prompt, by spans of steps.

import { answerSpans } from "../lib/answers.js";
import { downloads, explained } from "../lib/controls.js";
import { toCsv } from "../lib/csv.js";
import { $, h, saveFile } from "../lib/dom.js";

const MOST_SHOWN = 8;
const WHY =
  "The model's own answer to the probe's prompt by greedy decoding. " +
  "Equal consecutive answers are listed once; words that the previous answer lacks are marked.";

export class AnswersView {
  constructor(host, runId) {
    this.host = host;
    this.runId = runId;
    this.answers = null;
    this.isWhole = false;
    this.list = h("ol", { class: "answers" });
    host.replaceChildren(
      h(
        "div",
        { class: "card-head" },
        h(
          "span",
          { class: "chart-title" },
          h("h3", {}, "What the model answers"),
          explained(WHY, "y_k = argmax p(· | x, y_<k)"),
        ),
        downloads(this, ["csv"]),
      ),
      this.list,
    );
    host.hidden = true;
  }

  /** @param {number} pair @param {import("../lib/answers.js").Answers | null} answers null where none were recorded */
  show(pair, answers) {
    this.pair = pair;
    this.answers = answers;
    this.isWhole = false;
    this.render();
  }

  render() {
    const items = this.answers?.items ?? [];
    this.host.hidden = items.length === 0;
    const spans = answerSpans(items);
    const isCut = !this.isWhole && spans.length > MOST_SHOWN;
    // The first answer and the last ones.
    const shown = isCut ? [spans[0], ...spans.slice(1 - MOST_SHOWN)] : spans;
    const rows = shown.map((span) =>
      h(
        "li",
        {},
        h("span", { class: "steps" }, span.from === span.to ? `step ${span.from}` : `steps ${span.from}–${span.to}`),
        h(
          "span",
          { class: "text" },
          span.words.map((word) => (word.isNew ? h("mark", {}, word.text) : word.text)),
          span.text === "" ? h("span", { class: "quiet" }, "(nothing)") : null,
          span.ended ? null : h("span", { class: "quiet", title: "Truncated here." }, " …"),
        ),
      ),
    );
    if (isCut) rows.splice(1, 0, this.more(spans.length - shown.length));
    this.list.replaceChildren(...rows);
  }

  more(count) {
    return h(
      "li",
      {},
      h("span", {}),
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            this.isWhole = true;
            this.render();
            $("li", this.list)?.focus();
          },
        },
        `Show ${count} more`,
      ),
    );
  }

  download() {
    const { items } = this.answers;
    const column = (name) => items.map((item) => item[name]);
    const columns = { step: column("step"), text: column("text"), ended: column("ended").map(String) };
    saveFile(`run-${this.runId}-pair-${this.pair}-answers.csv`, toCsv(columns), "text/csv");
  }
}
