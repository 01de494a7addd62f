import assert from "node:assert/strict";
import { test } from "node:test";
import { displaced, displacementOnset } from "../../../static/lib/displaced.js";

for (const [preferred, dispreferred, expected] of [
  [-1, -2, true],
  [-1.1e-4, -1, true],
  [-1e-4, -1, false],
  [0, -1, false],
  [1e-4, -1, false],
  [-1, -1, false],
  [-1, -1 - 2e-4, true],
  [-1, 0, false],
  [Number.NaN, -1, false],
  [-1, Number.NaN, false],
  [null, -1, false],
  [-1, null, false],
  [-1, undefined, false],
  [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, false],
]) {
  test(`displaced: ${preferred} against ${dispreferred}`, () => {
    assert.equal(displaced(preferred, dispreferred), expected);
  });
}

for (const [preferred, dispreferred, onset] of [
  [[0, -1, -2, -3], [0, -2, -4, -6], 10],
  // It recovered in between: displacement that lasts began later.
  [[0, -1, 0.5, -3], [0, -2, -4, -6], 30],
  // The margin is not positive in the end.
  [[0, -1, -2, -3], [0, -2, -4, -1], null],
  // Less than rounding makes.
  [[0, -1e-5, -1e-5, -1e-5], [0, -2, -4, -6], null],
  [[0, -1, null, -3], [0, -2, null, -6], 30],
  [[0], [0], null],
]) {
  test(`displacement begins where it stays: ${preferred}`, () => {
    const steps = [0, 10, 20, 30].slice(0, preferred.length);
    assert.equal(displacementOnset(steps, preferred, dispreferred), onset);
  });
}
