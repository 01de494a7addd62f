import assert from "node:assert/strict";
import { test } from "node:test";
import {
  arranged,
  influenceFigure,
  interferenceFigure,
  largestInfluence,
  shareOfPull,
} from "../../../static/figures/preflight.js";
import { COLORS } from "./colors.js";

/** The step on pair 3 of pairs 3 and 8 is finished; it moves itself by 5, the other by -2. */
const INFLUENCE = { rows: [3], columns: [8, 3], preferred: [[-2, 5]], dispreferred: [[0, 0]], order: [3, 8] };

test("rows and columns stand in one order, without rows that are not finished", () => {
  const matrix = arranged(INFLUENCE, "preferred", INFLUENCE.order);
  assert.deepEqual(matrix, { rows: [3], columns: [3, 8], values: [[5, -2]] });
});

test("the scale ends at the largest effect of a pair on another", () => {
  const matrix = arranged(INFLUENCE, "preferred", INFLUENCE.order);
  assert.equal(largestInfluence(matrix), 2);
  const alone = { rows: [3], columns: [3], values: [[5]] };
  assert.equal(largestInfluence(alone), 5);
});

test("pairs are categories, so that their numbers are no scale", () => {
  const { data, layout } = influenceFigure(arranged(INFLUENCE, "preferred", INFLUENCE.order), COLORS);
  assert.deepEqual([data[0].x, data[0].y], [["3", "8"], ["3"]]);
  assert.deepEqual([layout.xaxis.type, layout.yaxis.type], ["category", "category"]);
});

const PAIR = {
  interference: {
    map: [
      [3, -1],
      [1, 1],
    ],
    pulls: [4, 0],
  },
  preferred_tokens: ["No", "."],
  dispreferred_tokens: ["Ne", "ver"],
  head_pull: 4,
};

test("what pulls down is negative in the map, and its sums stand above as bars", () => {
  const { data } = interferenceFigure(PAIR, COLORS);
  const [map, bars] = data;
  assert.deepEqual(map.z, [
    [-3, 1],
    [-1, -1],
  ]);
  assert.deepEqual(map.customdata[0][0], ["1: No", "1: Ne", "<br>75.0 % of all that lowering y− takes"]);
  assert.deepEqual([bars.type, bars.y, bars.x], ["bar", [4, 0], map.x]);
});

test("a share is said only of something that is taken", () => {
  assert.equal(shareOfPull(1, 4), "<br>25.0 % of all that lowering y− takes");
  assert.equal(shareOfPull(-1, 4), "");
  for (const pull of [0, -4, null]) assert.equal(shareOfPull(1, pull), "");
});

test("labels are as many as there is room for", () => {
  const many = { ...PAIR, dispreferred_tokens: Array.from({ length: 100 }, (_, j) => `t${j}`) };
  const shown = (/** @type {number} */ width) =>
    interferenceFigure(many, COLORS, { width, height: 500 }).layout.xaxis.tickvals.length;
  assert.ok(shown(320) < 15);
  assert.equal(shown(1700), 100);
});

test("without a map nothing is drawn", () => {
  const { data } = interferenceFigure({ ...PAIR, interference: null, head_pull: null }, COLORS);
  assert.deepEqual(
    data.map((trace) => trace.x),
    [[], []],
  );
});
