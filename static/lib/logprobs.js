// Sums and differences of log-probabilities that may be missing.

/** @import { MaybeNumber } from "./types.js" */

/**
 * Log-probability of a whole response.
 *
 * @param {MaybeNumber[] | null} [logprobs] one a token
 * @returns {MaybeNumber} null where there is no token or one is missing or not finite
 */
export function sumOf(logprobs) {
  if (!logprobs?.length) return null;
  let total = 0;
  for (const value of logprobs) {
    if (value === null) return null;
    total += value;
  }
  return total;
}

/** @param {MaybeNumber} [a] @param {MaybeNumber} [b] @returns {MaybeNumber} a - b, null where one is missing */
export const differenceOf = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : null);
