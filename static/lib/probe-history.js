// What a page knows of one probe's recorded steps: a watched pair, or a prompt without responses.

import { sumOf } from "./logprobs.js";
import { StepRows } from "./step-rows.js";

/** @import { Displacement, LedgerEntry, MaybeNumber, Probe, ProbeRow } from "./types.js" */
/** @import { ProbeSeries, ProbeStep, WatchedToken } from "./types.js" */

/** Ledgers kept per probe; the oldest are dropped first. */
const MOST_LEDGERS = 500;

/** @extends {StepRows<ProbeStep>} */
export class ProbeHistory extends StepRows {
  /**
   * @param {Probe} probe
   * @param {ProbeSeries} series the steps known so far
   */
  constructor(probe, series) {
    super();
    this.probe = probe;
    this.isPrompt = probe.kind === "prompt";
    this.groupNames = probe.groups_list?.map((group) => group.name) ?? Object.keys(series.fork.groups ?? {});
    /** Tokens whose probability is known at several steps. @type {Map<number, WatchedToken>} */
    this.traced = new Map(probe.watched.map((token) => [token.token_id, token]));
    /** Step → the worker's ledger at the fork, over the whole vocabulary.
     *  @type {Map<number, {gainers: LedgerEntry[], losers: LedgerEntry[], rest: MaybeNumber}>} */
    this.ledgers = new Map();
    /** "position@step" → the API's ledger; null where none was recorded. @type {Map<string, any>} */
    this.ledgerResponses = new Map();
    /** The server's sentence on what happened. @type {string | null | undefined} */
    this.verdict = undefined;
    /** @type {string | null | undefined} */
    this.verdictShort = undefined;
    /** How bad the displacement is, in numbers. @type {Displacement | null} */
    this.displacement = null;
    /** The first step at which each destination had gained most. @type {Record<string, number>} */
    this.destinationOnsets = {};
    this.mergeSeries(series);
  }

  /** @override */
  peakColumns() {
    return [
      (/** @type {ProbeStep} */ row) => row.preferredSum,
      (/** @type {ProbeStep} */ row) => row.preferredProb,
      (/** @type {ProbeStep} */ row) => row.otherProb,
      (/** @type {ProbeStep} */ row) => row.movedMass,
    ];
  }

  get preferredToken() {
    return forkToken(this.probe.preferred_tokens, this.probe.fork_position);
  }

  get dispreferredToken() {
    return forkToken(this.probe.dispreferred_tokens, this.probe.fork_position);
  }

  /** Merge a response of /probes/{pair}: the whole run or a range of steps. @param {ProbeSeries} series */
  mergeSeries(series) {
    this.verdict = series.verdict ?? this.verdict;
    this.verdictShort = series.verdict_short ?? this.verdictShort;
    this.displacement = series.displacement ?? this.displacement;
    this.destinationOnsets = series.destination_onsets ?? this.destinationOnsets;
    const entries = [...series.gainers, ...series.losers];
    for (const entry of entries) this.traced.set(entry.token_id, entry);
    const { preferred, dispreferred, fork } = series;
    const rows = series.steps.map((step, i) => ({
      step,
      ...responses(preferred?.logprobs?.[i], dispreferred?.logprobs?.[i]),
      preferredProb: fork.preferred_prob?.[i] ?? null,
      dispreferredProb: fork.dispreferred_prob?.[i] ?? null,
      otherProb: fork.other_prob?.[i] ?? null,
      groupProbs: this.groupNames.map((name) => fork.groups?.[name]?.[i] ?? null),
      movedMass: series.moved_mass[i] ?? null,
      rankAgreement: series.rank_agreement?.[i] ?? null,
      traced: new Map(entries.map((entry) => [entry.token_id, entry.probs[i] ?? null])),
    }));
    this.merge(rows);
    if (series.ledger_step !== null) this.keepLedger(series.ledger_step, series);
  }

  /**
   * Insert or replace a row of the event stream.
   *
   * @param {ProbeRow} row
   * @returns {boolean} whether it was appended
   */
  putRow(row) {
    this.keepLedger(row.step, row);
    return this.put({
      step: row.step,
      ...responses(row.preferred_logprobs, row.dispreferred_logprobs),
      preferredProb: row.preferred_prob ?? null,
      dispreferredProb: row.dispreferred_prob ?? null,
      otherProb: row.other_prob ?? null,
      groupProbs: this.groupNames.map((_, i) => row.group_probs[i] ?? null),
      movedMass: row.moved_mass ?? null,
      rankAgreement: row.rank_agreement ?? null,
      traced: new Map(this.probe.watched.map((token, i) => [token.token_id, row.watched_probs[i] ?? null])),
    });
  }

  /** @override @param {number} step */
  cut(step) {
    super.cut(step);
    for (const known of [...this.ledgers.keys()]) if (known > step) this.ledgers.delete(known);
    this.ledgerResponses.clear();
    this.destinationOnsets = {};
  }

  /**
   * @param {number} step
   * @param {{gainers: LedgerEntry[], losers: LedgerEntry[], rest_change?: MaybeNumber}} ledger
   */
  keepLedger(step, { gainers, losers, rest_change: rest }) {
    this.ledgers.set(step, { gainers, losers, rest: rest ?? null });
    dropOldest(this.ledgers);
  }

  /** @param {string} key @param {any} response */
  keepLedgerResponse(key, response) {
    this.ledgerResponses.set(key, response);
    dropOldest(this.ledgerResponses);
  }

  get preferredProb() {
    return this.column("preferredProb", (row) => row.preferredProb);
  }
  get dispreferredProb() {
    return this.column("dispreferredProb", (row) => row.dispreferredProb);
  }
  get otherProb() {
    return this.column("otherProb", (row) => row.otherProb);
  }
  get movedMass() {
    return this.column("movedMass", (row) => row.movedMass);
  }
  get rankAgreement() {
    return this.column("rankAgreement", (row) => row.rankAgreement);
  }
  get preferredLogprobs() {
    return this.column("preferredLogprobs", (row) => row.preferredLogprobs);
  }
  get dispreferredLogprobs() {
    return this.column("dispreferredLogprobs", (row) => row.dispreferredLogprobs);
  }

  /** The token groups' summed probabilities: [{name, probs}]. */
  get groups() {
    return this.groupNames.map((name, i) => ({ name, probs: this.column(`group ${i}`, (row) => row.groupProbs[i]) }));
  }

  /** Change of each whole response's log-probability since the first step, in nats. */
  get changes() {
    const first = this.rows[0];
    const since = (/** @type {"preferredSum" | "dispreferredSum"} */ name) =>
      this.column(`change ${name}`, (row) => {
        const [now, before] = [row[name], first[name]];
        return now === null || before === null ? null : now - before;
      });
    return { preferred: since("preferredSum"), dispreferred: since("dispreferredSum") };
  }

  /**
   * Of the traced tokens those whose probability changed most from the first to the last step.
   *
   * @param {number} most
   * @returns {{token: string, probs: MaybeNumber[]}[]} probs: one value a step
   */
  movers(most) {
    const [first, last] = [this.rows[0]?.traced, this.rows.at(-1)?.traced];
    /** @param {number} id */
    const change = (id) => {
      const [before, now] = [first?.get(id), last?.get(id)];
      return typeof before === "number" && typeof now === "number" ? Math.abs(now - before) : Number.NaN;
    };
    return [...this.traced.values()]
      .map(({ token_id: id, token }) => ({ id, token, size: change(id) }))
      .filter(({ size }) => Number.isFinite(size))
      .sort((a, b) => b.size - a.size)
      .slice(0, most)
      .map(({ id, token }) => ({ token, probs: this.column(`token ${id}`, (row) => row.traced.get(id) ?? null) }));
  }

  /** The traced tokens with their probability at one of the known steps. @param {number} index */
  tokensAt(index) {
    const { traced } = this.rows[index];
    return [...this.traced.values()].flatMap((token) => {
      const now = traced.get(token.token_id);
      return typeof now === "number" && Number.isFinite(now) ? [{ ...token, now }] : [];
    });
  }
}

/** @param {MaybeNumber[]} [preferred] @param {MaybeNumber[]} [dispreferred] one log-probability a token */
function responses(preferred, dispreferred) {
  return {
    preferredLogprobs: preferred ?? [],
    dispreferredLogprobs: dispreferred ?? [],
    preferredSum: sumOf(preferred),
    dispreferredSum: sumOf(dispreferred),
  };
}

/** @param {Map<any, any>} map */
function dropOldest(map) {
  if (map.size > MOST_LEDGERS) map.delete(map.keys().next().value);
}

/** @param {string[]} tokens @param {number} position */
function forkToken(tokens, position) {
  return tokens[Math.min(position, tokens.length - 1)] ?? "";
}
