// Where the displayed ledger comes from: the event stream, the traced tokens, or the API.
//
// The stream carries the ledger at the fork against step 0. Everything else (another position, the change since the
// previous record, predicted gainers) is requested from the API, one request at a time.

import { makeLedger, recordedLedger } from "../figures/ledger.js";
import { predictedOf } from "../figures/predicted.js";
import { clip, visible } from "../lib/format.js";

/** @import { ProbeHistory } from "../lib/probe-history.js" */
/** @import { Ledger, LedgerEntry, MaybeNumber, Prediction, Probe } from "../lib/types.js" */

/** A recorded position of a response; null is the fork.
 *  @typedef {{response: "preferred" | "dispreferred", position: number} | null} Place */

/** moved: total moved mass; since: the step that the ledger is compared with.
 *  @typedef {Ledger & {moved: MaybeNumber, since: number}} ShownLedger */

/** @param {Place} place @param {number} step */
const keyOf = (place, step) => `${place ? `${place.response}:${place.position}` : "fork"}@${step}`;

/** A ledger entry of the API as the tables show it. @param {LedgerEntry} entry */
const complete = (entry) => ({ predictedRank: null, ...entry, now: entry.final });

export class LedgerSource {
  /**
   * @param {(history: ProbeHistory, step: number, place: Place) => Promise<any>} load requests a ledger from the API
   * @param {(history: ProbeHistory) => void} onload called when a response has been stored in the history
   */
  constructor(load, onload) {
    this.load = load;
    this.onload = onload;
    this.isLoading = false;
    /** @type {[ProbeHistory, number, Place] | null} the last request that came while another was under way */
    this.pending = null;
  }

  /**
   * The API's ledger: undefined where it is not known yet, null where none was recorded.
   *
   * @param {ProbeHistory} history
   * @param {number} step
   * @param {Place} place
   */
  response(history, step, place) {
    return history.ledgerResponses.get(keyOf(place, step));
  }

  /**
   * Request a ledger unless it is known. Of several requests while one is under way only the last is kept.
   *
   * @param {ProbeHistory} history
   * @param {number | undefined} step
   * @param {Place} place
   */
  async request(history, step, place) {
    if (step === undefined || history.ledgerResponses.has(keyOf(place, step))) return;
    if (this.isLoading) {
      this.pending = [history, step, place];
      return;
    }
    this.isLoading = true;
    try {
      history.keepLedgerResponse(keyOf(place, step), await this.load(history, step, place));
      this.onload(history);
    } catch (problem) {
      // 404: not recorded at this step, so what else is known is shown. After any other failure (the connection is
      // lost) the next request tries again.
      if (/** @type {import("../lib/api.js").Problem} */ (problem).status !== 404) return;
      history.keepLedgerResponse(keyOf(place, step), null);
      this.onload(history);
    } finally {
      this.isLoading = false;
    }
    const next = this.pending;
    this.pending = null;
    if (next) this.request(...next);
  }

  /**
   * @param {ProbeHistory} history
   * @param {number} index of the step
   * @param {{place?: Place, isRecent?: boolean}} options isRecent: against the previous record instead of step 0
   * @returns {ShownLedger | null} null where it is not known (yet)
   */
  ledger(history, index, { place = null, isRecent = false } = {}) {
    const step = history.steps[index];
    const response = this.response(history, step, place);
    if (isRecent) return response?.recent ? recentOf(response) : null;
    if (response) return wholeOf(response, history, place);
    if (place) return null;
    const recorded = history.ledgers.get(step);
    const ledger = recorded
      ? recordedLedger(recorded.gainers, recorded.losers, recorded.rest, history.probe.watched)
      : makeLedger(history.tokensAt(index));
    return {
      ...ledger,
      moved: history.movedMass[index],
      since: history.steps[0],
      rankAgreement: history.rankAgreement[index],
    };
  }

  /**
   * Predicted gainers with their actual ranks.
   *
   * @param {ProbeHistory} history
   * @param {number} index of the step
   * @param {Place} place
   * @returns {Prediction[]}
   */
  predicted(history, index, place) {
    const response = this.response(history, history.steps[index], place);
    if (response?.predicted?.length) return response.predicted;
    if (place) return [];
    return predictedOf(history.probe.watched, this.ledger(history, index)?.gainers ?? []);
  }
}

/** @param {any} response @param {ProbeHistory} history @param {Place} place @returns {ShownLedger} */
function wholeOf(response, history, place) {
  const watched = place ? [] : history.probe.watched;
  const ledger = recordedLedger(response.gainers, response.losers, response.rest_change, watched);
  const ranks = new Map(
    (response.predicted ?? []).map((/** @type {Prediction} */ entry) => [entry.token_id, entry.predicted_rank]),
  );
  for (const entry of ledger.gainers) entry.predictedRank = ranks.get(entry.token_id) ?? entry.predictedRank;
  return {
    ...ledger,
    moved: response.moved_mass,
    since: history.steps[0],
    rankAgreement: response.rank_agreement,
  };
}

/** @param {any} response @returns {ShownLedger} */
function recentOf({ recent }) {
  return {
    gainers: recent.gainers.map(complete),
    losers: recent.losers.map(complete),
    rest: recent.rest_change,
    moved: recent.moved_mass,
    since: recent.since_step,
    rankAgreement: null,
  };
}

const LONGEST_LABEL = 28;

/**
 * The positions with a recorded ledger as value and text of each option of a choice, the fork first.
 *
 * @param {any} response of the API, which names the positions
 * @param {Probe} probe
 * @returns {[string, string][]}
 */
export function placesOf(response, probe) {
  /** @type {[string, string][]} */
  const fork = [["fork", probe.kind === "prompt" ? "the next token" : "the fork"]];
  const recorded = response?.positions;
  if (!recorded) return fork;
  const others = ["preferred", "dispreferred"].flatMap((name) =>
    (recorded[name] ?? []).map((position) => {
      const token = visible(probe[`${name}_tokens`][position] ?? "");
      const sign = name === "preferred" ? "y+" : "y−";
      return [`${name}:${position}`, clip(`${sign} ${position + 1}: ${token}`, LONGEST_LABEL)];
    }),
  );
  return [...fork, ...others];
}

/** "preferred:3" → {response, position}; anything else is the fork. @param {string | null} value @returns {Place} */
export function placeOf(value) {
  const match = /^(preferred|dispreferred):(\d+)$/.exec(value ?? "");
  if (!match) return null;
  return { response: match[1] === "preferred" ? "preferred" : "dispreferred", position: Number(match[2]) };
}
