// The review queue: which pairs in which order, and a cache of their details with prefetching.

import { api } from "../../lib/api.js";

const AHEAD = 8;
const FRESH_MS = 4000;
const MOST_KEPT = 400;

export class Queue {
  constructor(datasetId) {
    this.root = `/datasets/${datasetId}`;
    this.pairs = [];
    this.items = new Map(); // pair → its details
    this.fetched = new Map(); // pair → time of the fetch
    this.underway = new Map(); // pair → promise
    this.scoreRun = null;
    this.displacementRun = null;
  }

  /** Load the queue anew. @param {URLSearchParams} query filter and sort */
  async load(query) {
    const order = await api(`${this.root}/reviews/order?${query}`);
    this.pairs = order.pairs;
    this.scoreRun = order.score_run;
    this.displacementRun = order.displacement_run;
    this.items.clear();
    this.fetched.clear();
    this.underway.clear();
    this.sources = new URLSearchParams();
    for (const [name, value] of [
      ["score_run", order.score_run],
      ["displacement_run", order.displacement_run],
    ]) {
      if (value !== null) this.sources.set(name, value);
    }
  }

  /** A pair's details, from the cache where they are there. @param {number} pair */
  async get(pair) {
    if (!this.items.has(pair)) await this.fetch([pair]);
    return this.items.get(pair) ?? null;
  }

  isStale(pair) {
    return performance.now() - (this.fetched.get(pair) ?? -Infinity) > FRESH_MS;
  }

  /** Prefetch the pairs after and before a place that are not cached yet. @param {number} at */
  prefetch(at) {
    const near = [...this.pairs.slice(at + 1, at + 1 + AHEAD), ...this.pairs.slice(Math.max(0, at - 2), at)];
    const missing = near.filter((pair) => !this.items.has(pair) && !this.underway.has(pair));
    // Several in one request: one request per pair would be slower than the reviewer.
    if (missing.length > AHEAD / 2 || missing.includes(this.pairs[at + 1])) this.fetch(missing).catch(() => {});
  }

  async fetch(pairs) {
    const asked = pairs.filter((pair) => !this.underway.has(pair));
    if (asked.length) {
      const query = new URLSearchParams(this.sources);
      for (const pair of asked) query.append("pairs", pair);
      query.set("limit", asked.length);
      const answer = api(`${this.root}/reviews?${query}`).then((page) => {
        for (const item of page.items) this.put(item);
      });
      for (const pair of asked) {
        this.underway.set(pair, answer);
        answer.catch(() => {}).finally(() => this.underway.delete(pair));
      }
    }
    await Promise.all(pairs.map((pair) => this.underway.get(pair)));
  }

  /** Update a pair's details in place: the object stays the same for those that hold it. @param {any} item */
  put(item) {
    const known = this.items.get(item.pair) ?? {};
    // A verdict that is being stored is newer than the response.
    const { review } = known;
    Object.assign(known, item);
    if (known.unsent) known.review = review;
    this.items.delete(item.pair);
    this.items.set(item.pair, known);
    this.fetched.set(item.pair, performance.now());
    const [oldest] = this.items.values();
    if (this.items.size > MOST_KEPT && !oldest.unsent) this.items.delete(oldest.pair);
    return known;
  }
}
