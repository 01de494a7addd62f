// Rows keyed by step, in ascending order: a step that arrives again (after a reconnect or a resumed run) replaces the
// earlier row. A long run is kept downsampled, and at full resolution where someone zoomed in.

import { keptIndices } from "./downsampling.js";

const MOST_STEPS = 6000;
const THINNED_STEPS = 3000;

/**
 * Binary search for the index where `step` is or belongs; almost always the end.
 *
 * @param {{step: number}[]} rows ascending by step
 * @param {number} step
 */
function indexOf(rows, step) {
  if (!rows.length || rows[rows.length - 1].step < step) return rows.length;
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].step < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Rows, and columns of them that are computed on demand and cached until the rows change.
 *
 * @template {{step: number}} R
 */
export class StepRows {
  constructor() {
    /** @type {R[]} */
    this.rows = [];
    /** @type {Map<string, any[]>} */
    this.columnCache = new Map();
  }

  /**
   * Insert or replace one row.
   *
   * @param {R} row
   * @returns {boolean} whether it was appended, and so nothing before it changed
   */
  put(row) {
    const at = indexOf(this.rows, row.step);
    const isNew = this.rows[at]?.step !== row.step;
    const isAppended = isNew && at === this.rows.length;
    this.rows.splice(at, isNew ? 0 : 1, row);
    this.columnCache.clear();
    if (this.rows.length > MOST_STEPS) this.thin();
    return isAppended;
  }

  /** Insert or replace many rows. @param {R[]} rows */
  merge(rows) {
    const byStep = new Map([...this.rows, ...rows].map((row) => [row.step, row]));
    this.rows = [...byStep.values()].sort((a, b) => a.step - b.step);
    this.columnCache.clear();
  }

  /** Forget the rows after a step: a training that was resumed repeats them. @param {number} step */
  cut(step) {
    this.rows = this.rows.filter((row) => row.step <= step);
    this.columnCache.clear();
  }

  /**
   * The columns whose extremes survive thinning.
   *
   * @returns {((row: R) => number | null | undefined)[]}
   */
  peakColumns() {
    return [];
  }

  /** Drop most of the steps, but no peak. Zooming loads them again. */
  thin() {
    const columns = this.peakColumns().map((get) => this.rows.map(get));
    this.rows = keptIndices(this.rows.length, columns, THINNED_STEPS).map((i) => this.rows[i]);
  }

  /**
   * @template T
   * @param {string} name the cache's key
   * @param {(row: R) => T} get
   * @returns {T[]} one value a row
   */
  column(name, get) {
    const cached = this.columnCache.get(name);
    if (cached) return cached;
    const values = this.rows.map(get);
    this.columnCache.set(name, values);
    return values;
  }

  get steps() {
    return this.column("step", (row) => row.step);
  }
}
