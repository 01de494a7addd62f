// What a page knows of a run's optimizer steps.

import { StepRows } from "./step-rows.js";

/** @import { MaybeNumber, MetricName, MetricRow } from "./types.js" */

/** @extends {StepRows<MetricRow>} */
export class MetricHistory extends StepRows {
  /** @param {MetricName[]} names the columns that are shown */
  constructor(names) {
    super();
    /** The name of one of a trainer's further metrics, whose peaks survive thinning. @type {string | null} */
    this.other = null;
    /** @type {Set<string>} */
    this.seen = new Set();
    /** One value a step of each metric, null where it is missing. @type {Record<MetricName, MaybeNumber[]>} */
    this.columns = /** @type {any} */ ({});
    for (const name of names) {
      Object.defineProperty(this.columns, name, {
        enumerable: true,
        get: () => this.column(name, (row) => row[name] ?? null),
      });
    }
  }

  /** @override */
  peakColumns() {
    /** @type {MetricName[]} */
    const names = ["loss", "margin", "preferred_change", "grad_norm"];
    const columns = names.map((name) => (/** @type {MetricRow} */ row) => row[name]);
    const { other } = this;
    return other === null ? columns : [...columns, (/** @type {MetricRow} */ row) => row.extra?.[other]];
  }

  /** @override @param {MetricRow} row */
  put(row) {
    this.see(row);
    return super.put(row);
  }

  /** @override @param {MetricRow[]} rows */
  merge(rows) {
    for (const row of rows) this.see(row);
    super.merge(rows);
  }

  /** @param {MetricRow} row */
  see(row) {
    for (const name in row.extra) this.seen.add(name);
  }

  /** The names of a trainer's further metrics, in alphabetical order. */
  otherNames() {
    return [...this.seen].sort();
  }

  /**
   * The further metric that is chosen, at the steps at which it was logged; null where it was not finite.
   *
   * @returns {{steps: number[], values: MaybeNumber[]}}
   */
  otherColumn() {
    const { other } = this;
    const logged = this.rows.filter((row) => other !== null && row.extra?.[other] !== undefined);
    return {
      steps: logged.map((row) => row.step),
      values: logged.map((row) => row.extra?.[/** @type {string} */ (other)] ?? null),
    };
  }

  /** How many of the known steps hold a NaN or an infinity. */
  get nonfiniteSteps() {
    return this.rows.reduce((count, row) => count + (row.nonfinite?.length ? 1 : 0), 0);
  }
}
