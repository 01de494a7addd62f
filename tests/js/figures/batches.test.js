import assert from "node:assert/strict";
import { test } from "node:test";
import { batchFigure, firstPhaseEnd, phaseFigure, smoothed } from "../../../static/figures/batches.js";
import { assertClose } from "../approx.js";
import { COLORS } from "./colors.js";

test("smoothing forgets by steps and not by points", () => {
  // Two steps apart, the weight 0.5 keeps a quarter.
  assertClose(smoothed([4, 0], 0.5, [1, 3]), [4, (0.25 * 2) / (0.25 * 0.5 + 0.75)]);
});

test("smoothing starts at the first value and leaves gaps", () => {
  // With the weight 0.5 the sum is 2, then 1, the mass 0.5, then 0.75. Two steps on, a quarter of both is kept.
  assertClose(smoothed([4, 0, null, 8], 0.5), [4, 4 / 3, null, (1 / 4 + 6) / (0.75 / 4 + 0.75)]);
});

test("smoothing a constant changes nothing", () => {
  assertClose(smoothed([2, 2, 2, 2], 0.9), [2, 2, 2, 2]);
});

test("batch lines come raw and smoothed once there are enough steps", () => {
  const names = (steps, options = {}) => {
    const values = Array.from({ length: steps }, (_, i) => i);
    const lines = [{ name: "loss", values, color: "ink" }];
    return batchFigure(values, lines, COLORS, options).data.map((line) => line.name);
  };
  assert.deepEqual(names(40), ["loss, raw", "loss"]);
  assert.deepEqual(names(40, { weight: 0 }), ["loss"]);
  assert.deepEqual(names(5), ["loss"]);
});

test("the phase plot marks the last step", () => {
  const { data } = phaseFigure([1, 2], [0.1, 0.3], [-0.2, null], COLORS);
  assert.deepEqual(
    [data[0].x, data[0].y, data[0].customdata],
    [
      [0.1, 0.3],
      [-0.2, null],
      [1, 2],
    ],
  );
  assert.deepEqual([data[1].x, data[1].y], [[0.3], [null]]);
});

test("a first phase ends with the last step that has no margin, and a line is drawn behind it", () => {
  assert.equal(firstPhaseEnd([1, 2, 3, 4], [null, null, 0, 0.1]), 2);
  assert.equal(firstPhaseEnd([1, 2], [null, null]), 2);
  assert.equal(firstPhaseEnd([1, 2], [0, 0.1]), null);
  assert.equal(firstPhaseEnd([], []), null);
  const lines = [{ name: "loss", values: [3, 2, 1, 1], color: "ink" }];
  const drawn = batchFigure([1, 2, 3, 4], lines, COLORS, { phaseEnd: 2 });
  assert.deepEqual([drawn.layout.shapes[0].x0, drawn.layout.shapes[0].x1], [2.5, 2.5]);
  assert.equal(batchFigure([1, 2, 3, 4], lines, COLORS).layout.shapes, undefined);
});

test("what is smoothed before the end of a first phase does not reach behind it", () => {
  const steps = Array.from({ length: 40 }, (_, i) => i + 1);
  const values = steps.map((step) => (step <= 20 ? 50 : 1));
  const [, drawn] = batchFigure(steps, [{ name: "loss", values, color: "ink" }], COLORS, { phaseEnd: 20 }).data;
  assertClose(drawn.y, values);
});
