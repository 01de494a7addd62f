import assert from "node:assert/strict";
import { test } from "node:test";
import { bandsFigure, insertBands, joinBands } from "../../../static/figures/bands.js";
import { COLORS } from "./colors.js";

const QUANTILES = { q05: [0, -5], q25: [0, -4], q50: [0, -3], q75: [0, -2], q95: [0, -1] };

function bands(steps) {
  const values = Object.fromEntries(Object.keys(QUANTILES).map((name) => [name, steps.map((step) => 0 - step)]));
  return {
    steps,
    preferred_change: values,
    dispreferred_change: values,
    margin: values,
    displaced_fraction: steps.map(() => 0.5),
  };
}

test("bands hold half and nine tenths of the probes around the median", () => {
  const part = { name: "y+", quantiles: QUANTILES, color: "#0000ff" };
  const { data } = bandsFigure([0, 1], [part], COLORS, { title: "nats" });
  assert.deepEqual(
    data.map((trace) => [trace.y, trace.fill ?? null]),
    [
      [[0, -5], null],
      [[0, -1], "tonexty"],
      [[0, -4], null],
      [[0, -2], "tonexty"],
      [[0, -3], null],
    ],
  );
});

test("what is new of the bands replaces what it repeats", () => {
  const joined = joinBands(bands([0, 1, 2]), bands([2, 3]));
  assert.deepEqual(joined.steps, [0, 1, 2, 3]);
  assert.deepEqual(joined.margin.q50, [0, -1, -2, -3]);
  assert.equal(joined.displaced_fraction.length, 4);
});

test("a stretch of the bands takes its place between the others", () => {
  const coarse = insertBands(bands([0, 10, 20, 30]), bands([9, 10, 11]));
  assert.deepEqual(coarse.steps, [0, 9, 10, 11, 20, 30]);
  assert.deepEqual(coarse.margin.q50, [0, -9, -10, -11, -20, -30]);
  assert.deepEqual(insertBands(coarse, bands([])), coarse);
});
