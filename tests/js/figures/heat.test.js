import assert from "node:assert/strict";
import { test } from "node:test";
import { heatChanges, heatColumns, heatFigure, largestChange } from "../../../static/figures/heat.js";
import { COLORS } from "./colors.js";

test("the heat map of a long run keeps the largest change of each stretch", () => {
  const rows = [new Array(1000).fill(0), new Array(1000).fill(0)];
  rows[1][503] = -7;
  const kept = heatColumns(rows, 100);
  assert.ok(kept.includes(503));
  assert.deepEqual([kept[0], kept.at(-1)], [0, 999]);
  assert.ok(kept.length <= 102);
  assert.deepEqual(heatColumns([[1, 2, 3]], 100), [0, 1, 2]);
});

test("the heat map shows the change since the first step", () => {
  const changes = heatChanges(
    [
      [-1, -2],
      [-3, null],
      [-1, -1],
    ],
    ["a", "b"],
  );
  assert.deepEqual(changes, [
    [0, -2, 0],
    [0, null, 1],
  ]);
  assert.equal(largestChange(changes), 2);
});

test("the heat map is symmetric around no change", () => {
  const logprobs = [
    [0, 0],
    [-1, 3],
  ];
  const [trace] = heatFigure({ steps: [0, 1], tokens: ["<b>", "\n"], logprobs }, COLORS).data;
  assert.deepEqual([trace.zmin, trace.zmax], [-3, 3]);
  assert.deepEqual(
    trace.colorscale.map(([, color]) => color),
    ["#ff8800", "#000004", "#0000ff"],
  );
});

test("token texts are no markup in a figure", () => {
  const logprobs = [
    [0, 0],
    [1, 1],
  ];
  const axis = heatFigure({ steps: [0, 1], tokens: ["<b>", "a b\n"], logprobs }, COLORS).layout.yaxis;
  assert.deepEqual(axis.ticktext, ["&lt;b>", "a␣b↵"]);
});
