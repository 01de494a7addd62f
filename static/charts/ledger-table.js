// The ledger at one step as a table with diverging bars: gains to the right, losses to the left.

import { beforeAndNow } from "../figures/ledger.js";
import { h } from "../lib/dom.js";
import { number, probability, probabilityChange } from "../lib/format.js";
import { tokenView } from "../lib/token-view.js";

/** @import { Ledger, LedgerRow, Role } from "../lib/types.js" */

/** Sums of values stored in single precision differ from zero by less. */
const ROUNDING = 5e-5;

/**
 * @param {Ledger} ledger
 * @param {number} largest the change that fills half a bar
 * @param {(entry: LedgerRow) => Role} roleOf
 */
export function ledgerTable(ledger, largest, roleOf) {
  const row = (entry) => tokenRow(entry, largest, roleOf(entry));
  return h(
    "table",
    { class: "ledger" },
    h("caption", { class: "visually-hidden" }, "Tokens that gained and lost probability"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", {}, "Token"),
        h("th", { class: "num" }, "Before → now"),
        h("th", { class: "bar-head" }, h("span", {}, "lost"), h("span", {}, "gained")),
        h("th", { class: "num" }, "Change"),
        h("th", { class: "num narrow-hide" }, "Predicted"),
      ),
    ),
    h("tbody", {}, ledger.gainers.map(row), restRow(ledger.rest, largest), [...ledger.losers].reverse().map(row)),
  );
}

function tokenRow(entry, largest, role) {
  const rank = entry.predictedRank;
  const sign = { preferred: " y+", dispreferred: " y−" }[role];
  const predicted = rank === null ? "–" : rank > 0 ? `gainer #${rank}` : `loser #${-rank}`;
  return h(
    "tr",
    {},
    h("td", {}, tokenView(entry.token), sign ? h("span", { class: `small ${role}-ink` }, sign) : null),
    h("td", { class: "num" }, beforeAndNow(entry)),
    h("td", { class: "bar-cell" }, bar(entry.change / largest, role)),
    h("td", { class: "num" }, h("strong", {}, probabilityChange(entry.change))),
    h("td", { class: "num narrow-hide quiet" }, predicted),
  );
}

function restRow(rest, largest) {
  return h(
    "tr",
    { class: "rest" },
    h("td", { class: "quiet", colspan: "2" }, "all other tokens"),
    h("td", { class: "bar-cell" }, bar(rest / largest, "other")),
    h("td", { class: "num" }, h("strong", {}, probabilityChange(rest))),
    h("td", { class: "narrow-hide" }),
  );
}

/** @param {number} part −1 … 1 of half the width; positive to the right @param {Role} role */
function bar(part, role) {
  const width = `${Math.min(1, Math.abs(part)) * 50}%`;
  const fill = h("i", { class: `fill ${role}` });
  fill.style.width = width;
  fill.style.left = part >= 0 ? "50%" : `calc(50% - ${width})`;
  return h("div", { class: "diverging", "aria-hidden": "true" }, fill);
}

/** The balance as a sentence. @param {Ledger & {moved?: number | null}} ledger */
export function balanceOf(ledger) {
  const sum = (entries) => entries.reduce((total, entry) => total + entry.change, 0);
  const [gains, losses] = [sum(ledger.gainers), sum(ledger.losers)];
  const total = gains + losses + ledger.rest;
  const together = probabilityChange(Math.abs(total) < ROUNDING ? 0 : total).replace("+", "");
  return [
    `Gained ${probabilityChange(gains)}, lost ${probabilityChange(losses)}, ` +
      `all others ${probabilityChange(ledger.rest)}: together ${together}.`,
    Number.isFinite(ledger.moved) ? `In all, ${probability(ledger.moved)} of the probability moved.` : "",
    Number.isFinite(ledger.rankAgreement)
      ? `Rank agreement with the prediction: ρ = ${number(ledger.rankAgreement, 2)}.`
      : "",
  ]
    .filter(Boolean)
    .join(" ");
}

/** @param {Ledger} ledger @returns {import("../lib/types.js").Columns} */
export function ledgerCsv(ledger) {
  const rest = { token: "(all other tokens)", change: ledger.rest };
  const rows = [...ledger.gainers, rest, ...[...ledger.losers].reverse()];
  const column = (name) => rows.map((row) => row[name]);
  return {
    token_id: column("token_id"),
    token: column("token"),
    initial: column("initial"),
    now: column("now"),
    change: column("change"),
    predicted: column("predicted"),
    predicted_rank: column("predictedRank"),
  };
}
