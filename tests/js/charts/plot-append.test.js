import assert from "node:assert/strict";
import { test } from "node:test";
import { extensions, shapeOf } from "../../../static/charts/plot-append.js";
import { phaseFigure } from "../../../static/figures/batches.js";
import { changeFigure } from "../../../static/figures/curves.js";
import { COLORS } from "../figures/colors.js";

const change = (steps, preferred, dispreferred, options) =>
  changeFigure({ steps, preferred, dispreferred }, COLORS, options);
const before = shapeOf(change([0, 1], [0, -1], [0, -2]));

test("new points of all lines are appended in one call", () => {
  const next = change([0, 1, 2], [0, -1, null], [0, -2, -3]);
  assert.deepEqual(extensions(before, next), [
    { tails: { x: [[2], [2]], y: [[null], [-3]] }, traces: [0, 1], window: undefined },
  ]);
});

test("without new points there is nothing to append", () => {
  assert.deepEqual(extensions(before, change([0, 1], [0, -1], [0, -2])), []);
});

test("a changed point, a removed one, or another layout is drawn anew", () => {
  assert.equal(extensions(before, change([0, 1], [0, -7], [0, -2])), null);
  assert.equal(extensions(before, change([0], [0], [0])), null);
  assert.equal(extensions(before, change([0, 1, 2], [0, -1, -2], [0, -2, -3], { onset: 1 })), null);
});

test("a trace with a window replaces its points", () => {
  const drawn = shapeOf(phaseFigure([1], [0.1], [-0.1], COLORS));
  const next = extensions(drawn, phaseFigure([1, 2], [0.1, 0.4], [-0.1, -0.5], COLORS));
  assert.deepEqual(next, [
    { tails: { x: [[0.4]], y: [[-0.5]], customdata: [[2]], "marker.color": [[2]] }, traces: [0], window: undefined },
    { tails: { x: [[0.4]], y: [[-0.5]] }, traces: [1], window: 1 },
  ]);
});
