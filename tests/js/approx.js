// Comparing numbers that rounding may change.

import assert from "node:assert/strict";

/** Every number within a relative and absolute tolerance of 1e-9; null equals null only. */
export function assertClose(actual, expected, tolerance = 1e-9) {
  if (Array.isArray(expected)) {
    assert.equal(actual.length, expected.length);
    expected.forEach((value, i) => {
      assertClose(actual[i], value, tolerance);
    });
    return;
  }
  if (expected === null) assert.equal(actual, null);
  else assert.ok(Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)), `${actual} ≠ ${expected}`);
}
