// The first and the last recorded step of each probe: what the list of probes shows.

import { displaced } from "./displaced.js";
import { differenceOf, sumOf } from "./logprobs.js";

/** @import { LedgerEntry, MaybeNumber, ProbeRow, ProbeSeries } from "./types.js" */

/** Log-probabilities of both responses in nats, the top gainer, and the groups' probabilities at one step.
 *  @typedef {{
 *    step: number, preferred: MaybeNumber, dispreferred: MaybeNumber, gainer: LedgerEntry | null,
 *    groups: MaybeNumber[],
 *  }} ProbeSnapshot */

export class ProbeSnapshots {
  constructor() {
    /** @type {Map<number, {first: ProbeSnapshot, last: ProbeSnapshot}>} */
    this.byPair = new Map();
  }

  /** @param {number} pair */
  has(pair) {
    return this.byPair.has(pair);
  }

  /** A row of the event stream. @param {ProbeRow & {pair: number}} row */
  put(row) {
    this.keep(row.pair, {
      step: row.step,
      preferred: sumOf(row.preferred_logprobs),
      dispreferred: sumOf(row.dispreferred_logprobs),
      gainer: row.gainers[0] ?? null,
      groups: row.group_probs,
    });
  }

  /**
   * A response of /probes/{pair}, of few steps or many.
   *
   * @param {number} pair
   * @param {ProbeSeries} series
   * @param {string[]} groupNames in the order of the groups' probabilities
   */
  putSeries(pair, series, groupNames) {
    series.steps.forEach((step, i) => {
      const isLast = i === series.steps.length - 1;
      this.keep(pair, {
        step,
        preferred: sumOf(series.preferred?.logprobs?.[i]),
        dispreferred: sumOf(series.dispreferred?.logprobs?.[i]),
        gainer: isLast ? (series.gainers[0] ?? null) : null,
        groups: groupNames.map((name) => series.fork.groups?.[name]?.[i] ?? null),
      });
    });
  }

  /** Forget the probes whose last known step is after this one; they are to be loaded again. @param {number} step */
  cut(step) {
    for (const [pair, { last }] of [...this.byPair]) if (last.step > step) this.byPair.delete(pair);
  }

  /** @param {number} pair @param {ProbeSnapshot} snapshot */
  keep(pair, snapshot) {
    const known = this.byPair.get(pair) ?? { first: snapshot, last: snapshot };
    if (snapshot.step < known.first.step) known.first = snapshot;
    if (snapshot.step >= known.last.step) known.last = snapshot;
    this.byPair.set(pair, known);
  }

  /** Changes in nats from the first to the last known step; null where no step is known. @param {number} pair */
  changes(pair) {
    const known = this.byPair.get(pair);
    if (!known) return null;
    const { first, last } = known;
    const preferred = differenceOf(last.preferred, first.preferred);
    const dispreferred = differenceOf(last.dispreferred, first.dispreferred);
    return {
      step: last.step,
      preferred,
      dispreferred,
      margin: differenceOf(preferred, dispreferred),
      gainer: last.gainer,
      groups: last.groups,
      isDisplaced: displaced(preferred, dispreferred),
    };
  }
}
