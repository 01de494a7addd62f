import assert from "node:assert/strict";
import { test } from "node:test";
import { panelColumns, studyFigure } from "../../../static/figures/study.js";
import { COLORS } from "./colors.js";

const series = (more) => ({
  name: "a",
  kind: "line",
  x: [0, 1],
  y: [1, null],
  error: null,
  low: null,
  high: null,
  color: "run",
  ...more,
});
const panel = (all) => ({
  title: "",
  why: "",
  x_title: "step",
  y_title: "nats",
  y_range: null,
  small: false,
  series: all,
});

test("a band goes there on top and back below, and is drawn under its line", () => {
  const { data } = studyFigure(panel([series({ low: [0, -1], high: [2, 1], color: "preferred" })]), COLORS);
  assert.equal(data.length, 2);
  assert.deepEqual(data[0].x, [0, 1, 1, 0]);
  assert.deepEqual(data[0].y, [2, 1, -1, 0]);
  assert.equal(data[1].line.color, COLORS.preferred);
});

test("series of runs differ in color; responses keep theirs", () => {
  const { data } = studyFigure(panel([series({}), series({}), series({ color: "dispreferred" })]), COLORS);
  assert.deepEqual(
    data.map((trace) => trace.line.color),
    [COLORS.runs[0], COLORS.runs[1], COLORS.dispreferred],
  );
});

test("a mean over one run has no whisker", () => {
  const { data } = studyFigure(panel([series({ kind: "bars", x: ["a<b", "c"], error: [0.5, null] })]), COLORS);
  assert.deepEqual(data[0].error_y.array, [0.5, null]);
  assert.equal(data[0].x[0], "a&lt;b");
});

test("bars with an interval have whiskers to its ends, which are no band", () => {
  const bars = series({ kind: "bars", x: ["a", "b"], y: [50, null], low: [40, null], high: [75, null] });
  const { data } = studyFigure(panel([bars]), COLORS);
  assert.equal(data.length, 1);
  assert.deepEqual([data[0].error_y.array[0], data[0].error_y.arrayminus[0]], [25, 10]);
});

test("the CSV names the series of each row", () => {
  const columns = panelColumns(panel([series({}), series({ name: "b", x: [7], y: [2], error: [0.1] })]));
  assert.deepEqual(columns.series, ["a", "a", "b"]);
  assert.deepEqual(columns.step, [0, 1, 7]);
  assert.deepEqual(columns.sd, [null, null, 0.1]);
});
