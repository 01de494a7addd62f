// The rate of a judge with its interval, and how far other judges of the same answers agree with it.

import { explained } from "../../lib/controls.js";
import { dataTable, h } from "../../lib/dom.js";
import { count, number, percent } from "../../lib/format.js";

/** @param {any} summary */
export function rateView(summary) {
  const decided = summary.positive + summary.negative;
  const stat = (value, label) => h("div", { class: "stat" }, h("b", {}, value), h("span", {}, label));
  return h(
    "div",
    { class: "stats" },
    decided
      ? h(
          "div",
          { class: "stat" },
          h("b", {}, percent(summary.rate, 1)),
          h(
            "span",
            {},
            `positive: ${count(summary.positive)} of ${count(decided)}, 95 % interval ` +
              `${percent(summary.low, 1)} to ${percent(summary.high, 1)} `,
            explained(
              "Wilson’s score interval: the rates that these counts are compatible with, if the answers are drawn " +
                "independently of each other. Several answers to the same prompt are less than independent.",
            ),
          ),
        )
      : null,
    summary.mean_score === null ? null : stat(number(summary.mean_score, 4), "mean score"),
    summary.unjudged ? stat(count(summary.unjudged), decided ? "without a verdict" : "with scores alone") : null,
    summary.judged < summary.answers
      ? stat(`${count(summary.judged)} of ${count(summary.answers)}`, "answers judged so far")
      : stat(count(summary.answers), "answers"),
  );
}

/** @param {any[]} others */
export function agreementTable(others) {
  const kappaHelp = explained(
    "Cohen’s kappa: agreement beyond what the two judges’ own rates give by chance. 1 is full agreement, 0 none " +
      "beyond chance. Not defined where both judges give every answer the same one verdict.",
    "κ = (pₒ − pₑ) / (1 − pₑ)",
  );
  return dataTable(
    [
      h("th", {}, "Judge"),
      h("th", { class: "num" }, "Same verdict"),
      h("th", { class: "num" }, "Kappa ", kappaHelp),
      h("th", { class: "num narrow-hide" }, "Both positive"),
      h("th", { class: "num narrow-hide" }, "This one alone"),
      h("th", { class: "num narrow-hide" }, "That one alone"),
      h("th", { class: "num narrow-hide" }, "Both negative"),
    ],
    others.map(agreementRow),
  );
}

function agreementRow(item) {
  const cell = (value) => h("td", { class: "num narrow-hide" }, count(value));
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: `/runs/${item.second.run_id}` }, item.second.name)),
    h("td", { class: "num" }, `${percent(item.raw, 1)} of ${count(item.compared)}`),
    h("td", { class: "num" }, number(item.kappa, 2)),
    cell(item.both_positive),
    cell(item.first_only),
    cell(item.second_only),
    cell(item.both_negative),
  );
}
