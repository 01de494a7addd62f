// Where the ledger that is shown comes from: the stream, the tokens that are followed, or the API.
//
// The stream brings the ledger at the fork since step 0. Everything else (another position, the
// changes since the previous record, predicted gainers) is asked for, one request at a time.

import { drawUp, given } from "../figures/ledger.js";
import { predictedOf } from "../figures/predicted.js";
import { clip, visible } from "../lib/format.js";

const keyOf = (place, step) => `${place ? `${place.response}:${place.position}` : "fork"}@${step}`;

/** An entry of the API as the tables want it. */
const complete = (entry) => ({ predictedRank: null, ...entry, now: entry.final });

export class LedgerSource {
  /** ask(history, step, place): the API's answer. onanswer(): something more is known. */
  constructor(ask, onanswer) {
    this.ask = ask;
    this.onanswer = onanswer;
    this.isAsking = false;
    this.wish = null;
  }

  answer(history, step, place) {
    return history.answers.get(keyOf(place, step));
  }

  /** Ask for a ledger unless it is known; of several wishes meanwhile only the last is kept. */
  async want(history, step, place) {
    if (step === undefined || history.answers.has(keyOf(place, step))) return;
    if (this.isAsking) {
      this.wish = [history, step, place];
      return;
    }
    this.isAsking = true;
    try {
      history.keepAnswer(keyOf(place, step), await this.ask(history, step, place));
      this.onanswer(history);
    } catch (problem) {
      // Not recorded at this step: what is known is shown, or that there is none. Anything else
      // (the connection is away) is asked again when the next wish comes.
      if (problem.status !== 404) return;
      history.keepAnswer(keyOf(place, step), null);
      this.onanswer(history);
    } finally {
      this.isAsking = false;
    }
    const next = this.wish;
    this.wish = null;
    if (next) this.want(...next);
  }

  /** {gainers, losers, rest, rankAgreement, moved, since} or null where it is not known (yet).
   *  since: the step that it is compared with. */
  ledger(history, index, { place, isRecent }) {
    const step = history.steps[index];
    const answer = this.answer(history, step, place);
    if (isRecent) return answer?.recent ? recentOf(answer) : null;
    if (answer) return wholeOf(answer, history, place);
    if (place) return null;
    const own = history.ledgers.get(step);
    const ledger = own
      ? given(own.gainers, own.losers, own.rest, history.probe.watched)
      : drawUp(history.tokensAt(index));
    return {
      ...ledger,
      moved: history.movedMass[index],
      since: history.steps[0],
      rankAgreement: history.rankAgreement[index],
    };
  }

  /** Predicted gainers with their actual ranks, as figures/predicted.js wants them. */
  predicted(history, index, place) {
    const answer = this.answer(history, history.steps[index], place);
    if (answer?.predicted?.length) return answer.predicted;
    if (place) return [];
    return predictedOf(history.probe.watched, this.ledger(history, index, {})?.gainers ?? []);
  }
}

function wholeOf(answer, history, place) {
  const followed = place ? [] : history.probe.watched;
  const ledger = given(answer.gainers, answer.losers, answer.rest_change, followed);
  const ranks = new Map((answer.predicted ?? []).map((entry) => [entry.token_id, entry.predicted_rank]));
  for (const entry of ledger.gainers) entry.predictedRank = ranks.get(entry.token_id) ?? entry.predictedRank;
  return {
    ...ledger,
    moved: answer.moved_mass,
    since: history.steps[0],
    rankAgreement: answer.rank_agreement,
  };
}

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

/** Which of a probe's positions were recorded: [[value, label]] of a choice, the fork first. */
export function placesOf(answer, probe) {
  const fork = [["fork", probe.kind === "prompt" ? "the next token" : "the fork"]];
  const recorded = answer?.positions;
  if (!recorded) return fork;
  const others = ["preferred", "dispreferred"].flatMap((response) =>
    (recorded[response] ?? []).map((position) => {
      const token = visible(probe[`${response}_tokens`][position] ?? "");
      const sign = response === "preferred" ? "y+" : "y−";
      return [`${response}:${position}`, clip(`${sign} ${position + 1}: ${token}`, LONGEST_LABEL)];
    }),
  );
  return [...fork, ...others];
}

/** "preferred:3" → {response, position}; the fork is null. */
export function placeOf(value) {
  const match = /^(preferred|dispreferred):(\d+)$/.exec(value ?? "");
  return match ? { response: match[1], position: Number(match[2]) } : null;
}
