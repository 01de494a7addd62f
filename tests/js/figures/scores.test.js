import assert from "node:assert/strict";
import { test } from "node:test";
import { compareFigure } from "../../../static/figures/compare.js";
import {
  displacementFigure,
  distributionFigure,
  lengthsFigure,
  scatterFigure,
} from "../../../static/figures/scores.js";
import { COLORS } from "./colors.js";

test("measured displacement is drawn against the measure", () => {
  const points = [
    { pair: 4, x: -3, y: -0.5 },
    { pair: 5, x: null, y: 1 },
  ];
  const [trace] = displacementFigure(points, "CHES", COLORS).data;
  assert.deepEqual([trace.x, trace.y, trace.customdata], [[-3], [-0.5], [4]]);
});

test("the distribution marks quantiles", () => {
  const bins = [{ low: 1, high: 2, count: 3 }];
  const { layout } = distributionFigure(bins, "a", COLORS, { quantiles: [[1.5, "median"]] });
  assert.deepEqual(
    layout.shapes.map((shape) => shape.x0),
    [1.5],
  );
  assert.deepEqual(
    layout.annotations.map((note) => note.text),
    ["median"],
  );
});

test("the distribution marks the bins that would be flagged", () => {
  const bins = [0, 1, 2].map((i) => ({ low: i, high: i + 1, count: 10 * i }));
  let [trace] = distributionFigure(bins, "CHES", COLORS, { threshold: 1.5, isAbove: true }).data;
  assert.deepEqual(
    [trace.x, trace.y],
    [
      [0.5, 1.5, 2.5],
      [0, 10, 20],
    ],
  );
  assert.deepEqual(trace.marker.color, ["#888888", "#ff8800", "#ff8800"]);
  [trace] = distributionFigure([], "CHES", COLORS).data;
  assert.deepEqual(trace.x, []);
});

test("the scatter plot leaves out what is no number and sets flagged pairs apart", () => {
  const points = [
    { pair: 0, x: 1, y: 2, isFlagged: false },
    { pair: 1, x: null, y: 2, isFlagged: false },
    { pair: 2, x: 3, y: 4, isFlagged: true },
  ];
  const { data } = scatterFigure(points, "a", "b", COLORS);
  assert.deepEqual(
    data.map((trace) => [trace.name, trace.customdata, trace.marker.symbol]),
    [
      ["pairs", [0], "circle"],
      ["flagged", [2], "diamond"],
    ],
  );
});

test("lengths without statistics draw nothing", () => {
  assert.deepEqual(lengthsFigure(null, COLORS).data, []);
  const histogram = { start: 10, width: 5, counts: [2, 1] };
  const [trace] = lengthsFigure({ preferred: { histogram } }, COLORS).data;
  assert.deepEqual(
    [trace.x, trace.y],
    [
      [10, 15, 20],
      [2, 1, 0],
    ],
  );
});

test("a run keeps its style whatever it is compared with", () => {
  const run = { name: "a", x: [1, 2], y: [1, 2] };
  const [one, two] = [1, 2].map((other) => {
    const runs = [
      { ...run, id: other },
      { ...run, id: 7 },
    ];
    return compareFigure(runs, "step", "loss", COLORS).data[1].line;
  });
  assert.deepEqual(one, two);
});
