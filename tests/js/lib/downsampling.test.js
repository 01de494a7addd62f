import assert from "node:assert/strict";
import { test } from "node:test";
import { keptIndices } from "../../../static/lib/downsampling.js";

test("fewer points for the screen hold every peak", () => {
  const values = new Array(10_000).fill(0);
  [values[1234], values[7777], values[5000]] = [9, -9, null];
  const kept = keptIndices(values.length, [values], 300);
  assert.ok(kept.length <= 302);
  for (const i of [0, 1234, 7777, 9999]) assert.ok(kept.includes(i));
  assert.deepEqual(
    kept,
    kept.toSorted((a, b) => a - b),
  );
  assert.deepEqual(keptIndices(3, [[1, 2, 3]], 300), [0, 1, 2]);
});

test("columns without a number keep the first point of each stretch", () => {
  const kept = keptIndices(1000, [new Array(1000).fill(null)], 30);
  assert.deepEqual([kept[0], kept.at(-1)], [0, 999]);
  assert.ok(kept.length <= 32);
});
