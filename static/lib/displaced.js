// When a pair counts as displaced: the same rule as displaced() in chesboard/records.py and in the SQL of the store.

/** Changes of log-probability up to this, in nats, are rounding and count as none. */
export const DISPLACED_THRESHOLD = 1e-4;

/** The rule without its threshold, for explanations. */
export const DISPLACED_FORMULA = "displaced: Δ log p(y+) < 0 < m";

/**
 * Whether the preferred response lost likelihood while the margin grew: preferredChange < -1e-4 and
 * preferredChange - dispreferredChange > 1e-4. NaN, null and undefined are not displaced.
 *
 * @param {number | null | undefined} preferredChange change of log p(y+) in nats
 * @param {number | null | undefined} dispreferredChange change of log p(y-) in nats
 */
export function displaced(preferredChange, dispreferredChange) {
  if (typeof preferredChange !== "number" || typeof dispreferredChange !== "number") return false;
  return preferredChange < -DISPLACED_THRESHOLD && preferredChange - dispreferredChange > DISPLACED_THRESHOLD;
}

/**
 * The first step from which on the pair is displaced at every known step up to the last.
 *
 * @param {number[]} steps ascending
 * @param {(number | null)[]} preferred changes of log p(y+) since the first step, null where unknown
 * @param {(number | null)[]} dispreferred likewise of y-
 * @returns {number | null} null where the pair is not displaced at the last step
 */
export function displacementOnset(steps, preferred, dispreferred) {
  let onset = null;
  for (let i = steps.length - 1; i > 0; i -= 1) {
    if (!displaced(preferred[i], dispreferred[i])) break;
    onset = steps[i];
  }
  return onset;
}
