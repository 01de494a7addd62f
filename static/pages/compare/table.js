// The table of final numbers and of the settings in which the compared runs differ.

import { runKey } from "../../charts/run-key.js";
import { explained } from "../../lib/controls.js";
import { toCsv } from "../../lib/csv.js";
import { differences } from "../../lib/differences.js";
import { $, h, saveFile } from "../../lib/dom.js";
import { clip, number, percent, probability, probabilityChange, signed } from "../../lib/format.js";
import { severityTag, severityWord } from "../../lib/severity.js";
import { tokenView } from "../../lib/token-view.js";
import { FORMULAS } from "./series.js";

const TOP_GAINERS = 3;
/** Longer values are cut, in characters. */
const LONGEST_SETTING = 60;

function plain(value) {
  if (value === null || value === undefined) return "–";
  const text = Array.isArray(value) ? value.map(String).join(", ") : String(value);
  return h("span", { title: text.length > LONGEST_SETTING ? text : null }, clip(text, LONGEST_SETTING) || "none");
}

/** The tokens that gained most at any probe's fork, each once. */
function topGainers(run) {
  const best = new Map();
  for (const entry of (run.summary.probes ?? []).flatMap((probe) => probe.top_gainers ?? [])) {
    if (!(best.get(entry.token)?.change >= entry.change)) best.set(entry.token, entry);
  }
  return [...best.values()].sort((a, b) => b.change - a.change).slice(0, TOP_GAINERS);
}

/** One row: its label, a run's value, the value as text, an explanation and a formula.
 *  @typedef {[string, (run: any) => any, (value: any) => string, string, string?]} Row */

/** @type {Row[]} */
const ENDS = [
  [
    "Change of log p(y+), nats",
    (run) => run.summary.preferred_change,
    signed,
    "How much more likely the preferred responses became; below zero they lost.",
    FORMULAS.preferred_change,
  ],
  [
    "Change of log p(y−), nats",
    (run) => run.summary.dispreferred_change,
    signed,
    "How much more likely the dispreferred responses became; below zero they lost.",
    FORMULAS.dispreferred_change,
  ],
  [
    "Margin, nats",
    (run) => marginOf(run.summary),
    signed,
    "How much more the preferred responses gained than the dispreferred ones.",
    FORMULAS.margin,
  ],
  [
    "Displaced probes",
    (run) => run.summary.displaced_fraction,
    percent,
    "The share whose preferred response lost likelihood while the margin grew.",
    FORMULAS.displaced_fraction,
  ],
  [
    "Largest drawdown of P(y+ at the fork)",
    (run) => run.displacement?.drawdown?.size,
    probability,
    "How far the preferred token fell from a peak to a later trough, in the pair that the verdict is about.",
    "max_{t<t'} p_t − p_t'",
  ],
  [
    "Moved mass at the fork",
    (run) => run.summary.moved_mass,
    probability,
    "How much of the next token's probability is at other tokens than before.",
    "½ Σ_z |p_now(z) − p_initial(z)|",
  ],
  [
    "Final margin, batch, nats",
    (run) => run.summary.final_margin,
    signed,
    "The margin of the last batch's pairs.",
    FORMULAS.margin,
  ],
  ["Final loss", (run) => run.summary.final_loss, number, "The objective over the last batch's pairs."],
];

function marginOf({ preferred_change: up, dispreferred_change: down }) {
  return Number.isFinite(up) && Number.isFinite(down) ? up - down : null;
}

/** Name and each run's value of the settings that differ; a selection of pairs is one setting, in words.
 *  @returns {[string, unknown[]][]} */
function settings(runs, pairs) {
  const rows = differences(runs.map(({ config, dataset_name: dataset }) => ({ dataset, ...config })));
  const others = rows.filter(([name]) => !name.startsWith("selection."));
  const isSame = others.length === rows.length && new Set(Object.values(pairs)).size === 1;
  return isSame ? others : [["pairs", runs.map((run) => pairs[run.id])], ...others];
}

/**
 * @param {any[]} runs
 * @param {Record<string, string>} pairs run id → which pairs it was given, in words
 */
export function drawTable(runs, pairs) {
  const gainers = (run) =>
    topGainers(run).map((entry) => h("div", {}, tokenView(entry.token), ` ${probabilityChange(entry.change, 3)}`));
  const severity = (run) => {
    const since = run.displacement?.onset_step;
    return [
      severityTag(run.displacement_kind, run.displaced) ?? "–",
      Number.isFinite(since) ? h("div", { class: "small quiet" }, `since step ${since}`) : null,
    ];
  };
  const different = settings(runs, pairs);
  const head = (run) =>
    h(
      "th",
      { class: "num", scope: "col" },
      runKey(run.id),
      h("a", { href: `/runs/${run.id}` }, `${run.id} ${run.name}`.slice(0, 40)),
    );
  const row = (label, cells) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", class: "quiet" }, label),
      cells.map((cell) => h("td", { class: "num" }, cell)),
    );
  $("[data-table]").replaceChildren(
    h(
      "div",
      { class: "card-head" },
      h("h2", {}, "Final results"),
      h("button", { type: "button", class: "icon", onclick: () => saveTable(runs, different) }, "CSV"),
    ),
    h("p", { class: "small quiet" }, "Means over the watched pairs; below the line, the settings that differ."),
    h(
      "div",
      { class: "table-wrap" },
      h(
        "table",
        { class: "compare" },
        h("thead", {}, h("tr", {}, h("td", {}), runs.map(head))),
        h(
          "tbody",
          {},
          ENDS.map(([label, get, show, why, formula]) =>
            row(
              [label, " ", explained(why, formula)],
              runs.map((run) => show(get(run))),
            ),
          ),
          row(
            ["Displacement ", explained("How bad it is, of the pair that each run's verdict is about.")],
            runs.map(severity),
          ),
          row("Top gainers", runs.map(gainers)),
        ),
        h(
          "tbody",
          { class: "settings" },
          different.map(([name, values]) =>
            row(h("code", {}, name), values.map(name === "pairs" ? (words) => words : plain)),
          ),
        ),
      ),
    ),
  );
}

/** @param {any[]} runs @param {[string, unknown[]][]} different */
function saveTable(runs, different) {
  /** @type {[string, unknown[]][]} */
  const rows = [
    ...ENDS.map(([label, get]) => /** @type {[string, unknown[]]} */ ([label, runs.map(get)])),
    ["Displacement", runs.map((run) => severityWord(run.displacement_kind, run.displaced))],
    [
      "Top gainers",
      runs.map((run) =>
        topGainers(run)
          .map((entry) => `${entry.token} ${entry.change}`)
          .join("; "),
      ),
    ],
    ...different.map(([name, values]) => /** @type {[string, unknown[]]} */ ([name, values.map(cellText)])),
  ];
  /** @type {import("../../lib/types.js").Columns} */
  const columns = { what: rows.map(([label]) => label) };
  runs.forEach((run, i) => {
    columns[`run ${run.id}`] = rows.map(([, values]) => values[i]);
  });
  saveFile(`compare-${runs.map((run) => run.id).join("-")}-table.csv`, toCsv(columns), "text/csv");
}

/** @param {unknown} value */
const cellText = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : value);
