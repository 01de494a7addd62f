// What a page knows of a run's optimizer steps.

import { StepRows } from "./step-rows.js";

/** @import { MaybeNumber, MetricName, MetricRow } from "./types.js" */

/** @extends {StepRows<MetricRow>} */
export class MetricHistory extends StepRows {
  /** @param {MetricName[]} names the columns that are shown */
  constructor(names) {
    super();
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
    return names.map((name) => (/** @type {MetricRow} */ row) => row[name]);
  }

  /** How many of the known steps hold a NaN or an infinity. */
  get nonfiniteSteps() {
    return this.rows.reduce((count, row) => count + (row.nonfinite?.length ? 1 : 0), 0);
  }
}
