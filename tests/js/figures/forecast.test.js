import assert from "node:assert/strict";
import { test } from "node:test";
import { forecastFigure, isHit } from "../../../static/figures/forecast.js";
import { COLORS } from "./colors.js";

test("pairs whose sign was missed stand apart", () => {
  const points = [
    { pair: 0, forecast: -1, change: -2 },
    { pair: 1, forecast: -1, change: 2 },
    { pair: 2, forecast: 1, change: 2 },
    { pair: 3, forecast: 1, change: -0.00001 }, // a fall below 1e-4 nats is rounding
  ];
  assert.deepEqual(points.map(isHit), [true, false, true, true]);
  const bins = [{ pairs: 4, forecast: 0, change: 0.5, fell: 1 }];
  const { data } = forecastFigure(points, bins, COLORS);
  assert.deepEqual(
    data.map((trace) => [trace.name, trace.x.length]),
    [
      ["sign as forecast", 3],
      ["sign missed", 1],
      ["means of tenths", 1],
    ],
  );
  assert.deepEqual(data[2].customdata, [[4, 1]]);
});
