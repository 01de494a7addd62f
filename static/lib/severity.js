// How bad a displacement is, as a word with a mark of its own (color alone says nothing) and in numbers.

import { h } from "./dom.js";
import { number, probability, probabilityChange } from "./format.js";
import { tokenView } from "./token-view.js";

/** @import { Displacement, DisplacementKind } from "./types.js" */

/** What each kind means, for a tooltip. */
const WHY = {
  kept: "The preferred response did not become less likely.",
  benign: "Displaced, but not to an opposite: to its own spellings or group, or to neither side.",
  catastrophic: "Displaced to the opposite of what was preferred.",
  unknown: "Displaced; no opposite is declared, or no ledger shows where the probability went.",
};

/**
 * A tag with the kind; null where nothing is to be said.
 *
 * @param {DisplacementKind | null | undefined} kind
 * @param {boolean | null | undefined} isDisplaced
 */
export function severityTag(kind, isDisplaced) {
  const shown = kind ?? (isDisplaced ? "unknown" : null);
  if (!shown) return null;
  return h("span", { class: `severity ${shown}`, title: WHY[shown] }, severityWord(kind, isDisplaced));
}

/**
 * "kept", "benign", "catastrophic", "displaced", or "".
 *
 * @param {DisplacementKind | null | undefined} kind
 * @param {boolean | null | undefined} isDisplaced
 * @returns {string}
 */
export const severityWord = (kind, isDisplaced) => kind ?? (isDisplaced ? "displaced" : "");

/**
 * The kind, unless newer numbers contradict it: while a run is active, it is of a few steps ago.
 *
 * @param {DisplacementKind | null | undefined} kind
 * @param {boolean} isDisplaced
 */
export function kindNow(kind, isDisplaced) {
  if (!kind) return null;
  return (kind === "kept") === isDisplaced ? null : kind;
}

/**
 * Since when, how far down, and what gained most: elements for a line of facts.
 *
 * @param {Displacement | null | undefined} found
 */
export function severityFacts(found) {
  if (!found) return [];
  const { onset_step: onset, drawdown, logprob_drawdown: nats, top_gainer: gainer } = found;
  const fact = (/** @type {any[]} */ ...parts) => h("span", {}, parts);
  return [
    onset === null ? null : fact(`since step ${onset}`),
    drawdown && fact(`largest drawdown ${fall(drawdown)}`),
    nats && fact(`log p(y+) down by ${number(nats.size)} nats at most`),
    gainer && fact("top gainer ", tokenView(gainer.token), ` ${probabilityChange(gainer.change, 3)}`),
  ].filter((one) => one !== null);
}

/** "0.016 (0.091 → 0.075, step 0 to 30)". @param {import("./types.js").Drawdown} drawdown */
export function fall({ size, peak, trough, peak_step: from, trough_step: to }) {
  return `${probability(size)} (${probability(peak)} → ${probability(trough)}, step ${from} to ${to})`;
}

/** @type {Record<string, string>} */
const DESTINATIONS = {
  variant: "other spellings of the preferred token",
  own_group: "its own group",
  opposite_group: "an opposite group",
  mode: "the token that was likeliest before",
  elsewhere: "tokens outside of these",
};

/**
 * "Gained most since displaced: an opposite group from step 5, other spellings … from step 25."
 *
 * @param {Record<string, number>} onsets destination → the first step at which it had gained most
 */
export function destinationsInWords(onsets) {
  const known = Object.entries(onsets).sort((a, b) => a[1] - b[1]);
  if (!known.length) return "";
  const words = known.map(([name, step]) => `${DESTINATIONS[name]} from step ${step}`);
  return `What gained most at the fork while displaced: ${words.join(", then ")}.`;
}
