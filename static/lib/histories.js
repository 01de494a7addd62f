// What a page knows of a run's steps. Every number is kept once, by its step: what comes twice
// (a reconnected stream, a resumed run) takes the place of what was there. A long run is known
// coarsely, and finely where someone looked closer.

import { keptIndices } from "./downsampling.js";

const MOST_STEPS = 6000;
const THINNED_STEPS = 3000;
const MOST_LEDGERS = 500;

/** Changes of log-probability below this, in nats, are called no change: rounding makes some. */
export const STILL = 1e-4;

/** Where `step` is or belongs in a list that ascends by step. Almost always the end. */
function place(rows, step) {
  if (!rows.length || rows.at(-1).step < step) return rows.length;
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].step < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Rows in the order of their steps, and columns made of them when they are asked for. */
class Rows {
  constructor() {
    this.rows = [];
    this.made = new Map();
  }

  /** Returns whether the row was appended (and nothing before it changed). */
  put(row) {
    const at = place(this.rows, row.step);
    const isNew = this.rows[at]?.step !== row.step;
    const isAppended = isNew && at === this.rows.length;
    this.rows.splice(at, isNew ? 0 : 1, row);
    this.made.clear();
    if (this.rows.length > MOST_STEPS) this.thin();
    return isAppended;
  }

  /** Many rows at once, in ascending order. */
  merge(rows) {
    const byStep = new Map([...this.rows, ...rows].map((row) => [row.step, row]));
    this.rows = [...byStep.values()].sort((a, b) => a.step - b.step);
    this.made.clear();
  }

  /** Forget most of the steps, but none of the peaks. Zooming brings them back. */
  thin() {
    const columns = this.telling().map((get) => this.rows.map(get));
    this.rows = keptIndices(this.rows.length, columns, THINNED_STEPS).map((i) => this.rows[i]);
    this.isThinned = true;
  }

  column(name, get) {
    if (!this.made.has(name)) this.made.set(name, this.rows.map(get));
    return this.made.get(name);
  }

  get steps() {
    return this.column("step", (row) => row.step);
  }

  get lastIndex() {
    return this.rows.length - 1;
  }
}

export class MetricHistory extends Rows {
  constructor(names) {
    super();
    this.columns = {};
    for (const name of names) {
      Object.defineProperty(this.columns, name, {
        enumerable: true,
        get: () => this.column(name, (row) => row[name] ?? null),
      });
    }
  }

  telling() {
    return ["loss", "margin", "preferred_change", "grad_norm"].map((name) => (row) => row[name]);
  }

  /** How many of the known steps hold a number that is not finite. */
  get notFinite() {
    return this.rows.reduce((count, row) => count + (row.nonfinite?.length ? 1 : 0), 0);
  }
}

/** Log p of a whole response; null where there is none or a token's is not finite. */
function sum(logprobs) {
  if (!logprobs?.length || logprobs.includes(null)) return null;
  return logprobs.reduce((total, value) => total + value, 0);
}

/** One probe over the steps. `probe` is from /probes, `series` from /probes/{pair}.
 *
 *  A row: {step, preferredLogprobs, dispreferredLogprobs, preferredSum, dispreferredSum,
 *  preferredProb, dispreferredProb, otherProb, groupProbs, movedMass, rankAgreement, traced: Map(id → prob)}. */
export class ProbeHistory extends Rows {
  constructor(probe, series) {
    super();
    this.probe = probe;
    this.isPrompt = probe.kind === "prompt";
    this.groupNames = probe.groups_list?.map((group) => group.name) ?? Object.keys(series.fork.groups ?? {});
    this.traced = new Map(probe.watched.map((token) => [token.token_id, token])); // tokens that are followed
    this.ledgers = new Map(); // step → the worker's own ledger at the fork, over the whole vocabulary
    this.answers = new Map(); // "place@step" → what the API says of a ledger
    this.mergeSeries(series);
  }

  telling() {
    return [(row) => row.preferredSum, (row) => row.preferredProb, (row) => row.otherProb, (row) => row.movedMass];
  }

  get preferredToken() {
    return forkToken(this.probe.preferred_tokens, this.probe.fork_position);
  }

  get dispreferredToken() {
    return forkToken(this.probe.dispreferred_tokens, this.probe.fork_position);
  }

  /** What /probes/{pair} says: all of the run or a stretch of it. */
  mergeSeries(series) {
    this.verdict = series.verdict ?? this.verdict;
    const entries = [...series.gainers, ...series.losers];
    for (const entry of entries) this.traced.set(entry.token_id, entry);
    const { preferred, dispreferred, fork } = series;
    const rows = series.steps.map((step, i) => ({
      step,
      ...responses(preferred?.logprobs?.[i], dispreferred?.logprobs?.[i]),
      preferredProb: fork.preferred_prob?.[i] ?? null,
      dispreferredProb: fork.dispreferred_prob?.[i] ?? null,
      otherProb: fork.other_prob?.[i] ?? null,
      groupProbs: this.groupNames.map((name) => fork.groups[name]?.[i] ?? null),
      movedMass: series.moved_mass[i] ?? null,
      rankAgreement: series.rank_agreement?.[i] ?? null,
      traced: new Map(entries.map((entry) => [entry.token_id, entry.probs[i] ?? null])),
    }));
    this.merge(rows);
    if (series.ledger_step !== null) this.keepLedger(series.ledger_step, series);
  }

  /** A probe row of the stream; returns whether it was appended. */
  put(row) {
    this.keepLedger(row.step, row);
    return super.put({
      step: row.step,
      ...responses(row.preferred_logprobs, row.dispreferred_logprobs),
      preferredProb: row.preferred_prob,
      dispreferredProb: row.dispreferred_prob,
      otherProb: row.other_prob,
      groupProbs: this.groupNames.map((_, i) => row.group_probs[i] ?? null),
      movedMass: row.moved_mass,
      rankAgreement: row.rank_agreement,
      traced: new Map(this.probe.watched.map((token, i) => [token.token_id, row.watched_probs[i] ?? null])),
    });
  }

  keepLedger(step, { gainers, losers, rest_change: rest }) {
    this.ledgers.set(step, { gainers, losers, rest });
    forgetOldest(this.ledgers);
  }

  keepAnswer(key, answer) {
    this.answers.set(key, answer);
    forgetOldest(this.answers);
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

  get groups() {
    return this.groupNames.map((name, i) => ({ name, probs: this.column(`group ${i}`, (row) => row.groupProbs[i]) }));
  }

  /** Log p of each whole response at each step, minus that at the first. */
  get changes() {
    const first = this.rows[0];
    const since = (name) =>
      this.column(`change ${name}`, (row) =>
        row[name] === null || first[name] === null ? null : row[name] - first[name],
      );
    return { preferred: since("preferredSum"), dispreferred: since("dispreferredSum") };
  }

  /** Of the tokens that are followed those that moved most: [{token, probs}], one value a step. */
  movers(most) {
    const [first, last] = [this.rows[0]?.traced, this.rows.at(-1)?.traced];
    const isKnown = ({ token_id: id }) => Number.isFinite(first?.get(id)) && Number.isFinite(last?.get(id));
    const size = ({ token_id: id }) => Math.abs(last.get(id) - first.get(id));
    return [...this.traced.values()]
      .filter(isKnown)
      .sort((a, b) => size(b) - size(a))
      .slice(0, most)
      .map(({ token_id: id, token }) => ({
        token,
        probs: this.column(`token ${id}`, (row) => row.traced.get(id) ?? null),
      }));
  }

  /** The tokens that are followed, as they stand at one of the known steps. */
  tokensAt(index) {
    const { traced } = this.rows[index];
    return [...this.traced.values()]
      .filter((entry) => Number.isFinite(traced.get(entry.token_id)))
      .map((entry) => ({ ...entry, now: traced.get(entry.token_id) }));
  }
}

function responses(preferred, dispreferred) {
  return {
    preferredLogprobs: preferred ?? [],
    dispreferredLogprobs: dispreferred ?? [],
    preferredSum: sum(preferred),
    dispreferredSum: sum(dispreferred),
  };
}

function forgetOldest(map) {
  if (map.size > MOST_LEDGERS) map.delete(map.keys().next().value);
}

function forkToken(tokens, position) {
  return tokens[Math.min(position, tokens.length - 1)] ?? "";
}

/** The first step from which y+ stays less likely than at the start while the margin is positive.
 *  null where it does not end that way. Changes are those since the first step, null for none. */
export function onsetOf(steps, preferred, dispreferred) {
  let onset = null;
  for (let i = steps.length - 1; i > 0; i -= 1) {
    const isDisplaced =
      preferred[i] !== null &&
      dispreferred[i] !== null &&
      preferred[i] < -STILL &&
      preferred[i] - dispreferred[i] > STILL;
    if (!isDisplaced) break;
    onset = steps[i];
  }
  return onset;
}
