// What a page knows of a run's steps. Every number is kept once, by its step: what comes twice
// (a reconnected stream, a resumed run) takes the place of what was there.

/** Where `step` is or belongs in an ascending list. Almost always the end. */
function place(steps, step) {
  let at = steps.length;
  while (at > 0 && steps[at - 1] >= step) at -= 1;
  return at;
}

export class MetricHistory {
  constructor(names) {
    this.names = names;
    this.steps = [];
    this.columns = Object.fromEntries(names.map((name) => [name, []]));
    this.notFinite = new Set();
  }

  /** Returns whether the row was appended (and nothing before it changed). */
  put(row) {
    const at = place(this.steps, row.step);
    const isNew = this.steps[at] !== row.step;
    const isLast = at === this.steps.length;
    this.steps.splice(at, isNew ? 0 : 1, row.step);
    for (const name of this.names) this.columns[name].splice(at, isNew ? 0 : 1, row[name] ?? null);
    if (row.nonfinite?.length) this.notFinite.add(row.step);
    return isNew && isLast;
  }
}

/** One probe over the steps. `probe` is from /probes, `series` from /probes/{pair}. */
export class ProbeHistory {
  constructor(probe, series) {
    this.probe = probe;
    this.verdict = series.verdict;
    this.steps = [...series.steps];
    this.preferredLogprobs = [...series.preferred.logprobs];
    this.dispreferredLogprobs = [...series.dispreferred.logprobs];
    this.preferredProb = [...series.fork.preferred_prob];
    this.dispreferredProb = [...series.fork.dispreferred_prob];
    this.otherProb = [...series.fork.other_prob];
    this.groups = Object.entries(series.fork.groups).map(([name, probs]) => ({ name, probs: [...probs] }));
    this.movedMass = [...series.moved_mass];
    this.traced = new Map();
    this.ledgers = new Map(); // step → the worker's own ledger, over the whole vocabulary
    this.putLedger(series);
  }

  get lastIndex() {
    return this.steps.length - 1;
  }

  get preferredToken() {
    return forkToken(this.probe.preferred_tokens, this.probe.fork_position);
  }

  get dispreferredToken() {
    return forkToken(this.probe.dispreferred_tokens, this.probe.fork_position);
  }

  /** A probe row of the stream; returns whether it was appended. */
  put(row) {
    const at = place(this.steps, row.step);
    const isNew = this.steps[at] !== row.step;
    const isLast = at === this.steps.length;
    const put = (list, value) => list.splice(at, isNew ? 0 : 1, value);
    put(this.steps, row.step);
    put(this.preferredLogprobs, row.preferred_logprobs);
    put(this.dispreferredLogprobs, row.dispreferred_logprobs);
    put(this.preferredProb, row.preferred_prob);
    put(this.dispreferredProb, row.dispreferred_prob);
    put(this.otherProb, row.other_prob);
    put(this.movedMass, row.moved_mass);
    this.groups.forEach((group, i) => put(group.probs, row.group_probs[i] ?? null));
    const watched = new Map(this.probe.watched.map((token, i) => [token.token_id, row.watched_probs[i]]));
    for (const entry of this.traced.values()) put(entry.probs, watched.get(entry.token_id) ?? null);
    this.ledgers.set(row.step, { gainers: row.gainers, losers: row.losers, rest: row.rest_change });
    return isNew && isLast;
  }

  /** A ledger that the API drew up; its entries' traces are kept for the slider. */
  putLedger(series) {
    if (series.ledger_step === null) return;
    for (const entry of [...series.gainers, ...series.losers]) {
      if (entry.probs.length === this.steps.length) this.traced.set(entry.token_id, entry);
    }
    this.ledgers.set(series.ledger_step, { gainers: series.gainers, losers: series.losers, rest: series.rest_change });
  }

  /** Log p of each whole response at each step, minus that at the first. */
  get changes() {
    const sum = (row) => row.reduce((total, value) => (value === null || total === null ? null : total + value), 0);
    const since = (rows) => {
      const first = rows.length ? sum(rows[0]) : 0;
      return rows.map((row) => { const now = sum(row); return now === null || first === null ? null : now - first; });
    };
    return { preferred: since(this.preferredLogprobs), dispreferred: since(this.dispreferredLogprobs) };
  }
}

function forkToken(tokens, position) {
  return tokens[Math.min(position, tokens.length - 1)] ?? "";
}
