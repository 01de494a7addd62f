// The review queue as a table; a row opens its pair.

import { dataTable, h } from "../../lib/dom.js";
import { aligned, count } from "../../lib/format.js";
import { measureOf } from "../../lib/measures.js";
import { verdictChip } from "./pair.js";

export const PAGE = 25;

/** measure: the column to show; open(at) opens a pair, turn(at) shows the page that holds it. */
export function listView({ queue, items, at, measure, open, turn }) {
  const start = Math.floor(at / PAGE) * PAGE;
  const to = start + items.length;
  const value = (item) =>
    measure === "displacement" ? item.displacement?.preferred_change : item.score?.measures[measure]?.value;
  const format = aligned(items.map(value));
  const label = measure === "displacement" ? "Change of log p(y+)" : measureOf(measure).short_label;
  return h(
    "section",
    { class: "card review-list", "aria-label": "Pairs" },
    dataTable(
      [
        h("th", { class: "num" }, "Pair"),
        h("th", {}, "Verdict"),
        h("th", { class: "num narrow-hide" }, label),
        h("th", {}, "Responses"),
        h("th", { class: "narrow-hide" }, "Note"),
      ],
      items.map((item, i) =>
        h(
          "tr",
          { class: "rows-link", "aria-current": start + i === at ? "true" : null },
          h(
            "td",
            { class: "num" },
            h(
              "a",
              {
                href: `?at=${item.pair}`,
                class: "cover",
                onclick: (event) => {
                  event.preventDefault();
                  open(start + i);
                },
              },
              String(item.pair),
            ),
          ),
          h(
            "td",
            {},
            verdictChip(item.review.verdict),
            item.review.reviewer ? h("div", { class: "quiet small" }, item.review.reviewer) : null,
          ),
          h("td", { class: "num narrow-hide" }, format(value(item))),
          h(
            "td",
            { class: "small" },
            item.flagged ? h("span", { class: "tag flagged" }, "⚑ flagged") : null,
            h("div", { class: "clip one" }, h("span", { class: "preferred-ink" }, "y+ "), item.preferred),
            h("div", { class: "clip one" }, h("span", { class: "dispreferred-ink" }, "y− "), item.dispreferred),
          ),
          h("td", { class: "small narrow-hide" }, h("span", { class: "clip" }, item.review.note ?? "")),
        ),
      ),
    ),
    h(
      "div",
      { class: "pager" },
      h("span", {}, `${count(start + 1)}–${count(to)} of ${count(queue.pairs.length)}`),
      h(
        "span",
        { class: "actions" },
        h("button", { type: "button", disabled: start === 0, onclick: () => turn(start - PAGE) }, "Previous"),
        h("button", { type: "button", disabled: to >= queue.pairs.length, onclick: () => turn(to) }, "Next"),
      ),
    ),
  );
}
