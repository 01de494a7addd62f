// The two charts beside a ledger: the flow from losers to gainers, and predicted against actual gainers.

import { flowFigure, flows } from "../figures/flow.js";
import { hits, predictedFigure } from "../figures/predicted.js";
import { number, probabilityChange, visible } from "../lib/format.js";
import { Chart } from "./chart.js";

/** @import { LedgerRow } from "../lib/types.js" */
/** @import { LedgerView } from "./ledger-view.js" */

export const PREDICTION_FORMULA = "p_z (⟨W_z, d⟩ − Σ_v p_v ⟨W_v, d⟩),  d = W[y+] − W[y−]";

/** @param {HTMLElement} host @param {LedgerView} view */
export function flowChart(host, view) {
  /** @param {LedgerRow[]} entries */
  const words = (entries) =>
    entries
      .slice(0, 3)
      .map((entry) => `${visible(entry.token)} ${probabilityChange(entry.change)}`)
      .join(", ");
  /** @param {{token: string | null}} node */
  const name = (node) => node.token ?? "(all others)";
  return new Chart(host, {
    title: "From before to after",
    name: `run-${view.runId}-flow`,
    empty: "Nothing has moved yet.",
    why:
      "The same ledger as one balanced picture: what was lost on the left, what was gained on the right. " +
      "Probability has no identity, so every loser gives to every gainer in proportion to its gain.",
    formula: "flow(a → b) = loss(a) · gain(b) / Σ gains",
    figure: (colors) =>
      flowFigure(view.shown(), colors, (/** @type {LedgerRow} */ entry) => colors[view.roleOf(entry)]),
    describe: () => `Lost: ${words(view.shown().losers)}. Gained: ${words(view.shown().gainers)}.`,
    csv: () => {
      const { sources, targets, links } = flows(view.shown());
      return {
        from: links.map((link) => name(sources[link.source])),
        to: links.map((link) => name(targets[link.target])),
        probability: links.map((link) => link.value),
      };
    },
  });
}

/** @param {HTMLElement} host @param {LedgerView} view */
export function predictedChart(host, view) {
  return new Chart(host, {
    title: "Predicted and actual gainers",
    name: `run-${view.runId}-predicted`,
    why:
      "The tokens that theory predicts to gain most at the fork for a small step, beside those that did. " +
      "Hollow points are in one of the two lists only.",
    formula: PREDICTION_FORMULA,
    empty: "Nothing is predicted here: the prediction needs two responses and holds at their fork.",
    figure: (colors) => predictedFigure(view.rankPairs(), colors, (pair) => colors[view.roleOf(pair)]),
    note: () => predictionInWords(view),
    describe: () => predictionInWords(view),
    csv: () => {
      const pairs = view.rankPairs();
      return {
        token_id: pairs.map((pair) => pair.token_id),
        token: pairs.map((pair) => pair.token),
        predicted_rank: pairs.map((pair) => pair.predictedRank),
        actual_rank: pairs.map((pair) => pair.actualRank),
        actual_change: pairs.map((pair) => pair.change),
      };
    },
  });
}

/** @param {LedgerView} view */
function predictionInWords(view) {
  const { of, predicted } = hits(view.rankPairs());
  if (!of) return "";
  const agreement = view.wholeLedger()?.rankAgreement;
  const words = `Theory named ${predicted} of the top ${of} gainers.`;
  return Number.isFinite(agreement) ? `${words} Rank agreement ρ = ${number(agreement, 2)}.` : words;
}
