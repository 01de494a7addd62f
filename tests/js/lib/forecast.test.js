import assert from "node:assert/strict";
import { test } from "node:test";
import {
  forecastSentence,
  hitSentence,
  remedySentence,
  restSentence,
  stopOf,
  trainAddress,
} from "../../../static/lib/forecast.js";

const CURVE = [
  { value: 0, falling: 12 },
  { value: 0.0123, falling: 7 },
  { value: 0.05, falling: 2 },
  { value: 0.4, falling: 0 },
];

test("the slider stops at the last point that is not above a value", () => {
  assert.deepEqual(
    [-1, 0, 0.01, 0.0123, 0.049, 0.05, 0.3, 0.4, 9].map((value) => stopOf(CURVE, value)),
    [0, 0, 0, 1, 1, 2, 2, 3, 3],
  );
  assert.equal(stopOf([CURVE[0]], 5), 0);
});

test("of a remedy that gets stronger downwards, the last point that is not below a value", () => {
  const curve = [1, 0.8, 0.5].map((value, index) => ({ value, falling: 2 - index }));
  assert.deepEqual(
    [2, 1, 0.9, 0.8, 0.6, 0.5, 0.1].map((value) => stopOf(curve, value)),
    [0, 0, 0, 1, 1, 2, 2],
  );
});

test("every point of a curve is a stop of its own, with its own number", () => {
  for (const [stop, { value, falling }] of CURVE.entries()) {
    assert.equal(stopOf(CURVE, value), stop);
    assert.equal(CURVE[stopOf(CURVE, value)].falling, falling);
  }
});

test("between two points the number is that of the point before, never less than the truth", () => {
  const smallest = [0.003, 0.01, 0.02, 0.03, 0.031, 0.2];
  const points = [0, 0.01, 0.03, 0.2];
  const curve = points.map((value) => ({ value, falling: smallest.filter((one) => one > value).length }));
  for (let value = 0; value < 0.25; value += 0.0007) {
    assert.ok(curve[stopOf(curve, value)].falling >= smallest.filter((one) => one > value).length);
  }
});

test("the forecast in words", () => {
  const forecast = { falling: 12, pairs: 1057, objective: "dpo", rising_dispreferred: 1, missing: 2 };
  assert.equal(forecastSentence(forecast), "12 of 1,057 preferred responses would fall at the first step under dpo.");
  assert.equal(restSentence(forecast), "1 dispreferred response would rise. 2 pairs have no forecast.");
  assert.equal(restSentence({ rising_dispreferred: 0, missing: 0 }), "");
  const remedy = { remedy: "sft_coef", curve: CURVE };
  assert.equal(remedySentence(remedy, 1, 1057), "sft_coef 0.0123: 7 of 1,057 would fall.");
});

test("training takes over the score run's model and the chosen settings", () => {
  const run = { id: 7, dataset_id: 3 };
  const config = { beta: 0.2, simpo_gamma: 0.7, slic_delta: 1, length_normalize: true };
  const address = (remedy, objective) =>
    new URL(trainAddress(run, { config }, { remedy, objective }, 0.0123), "http://host");
  const dpop = address("dpop_lambda", "dpop");
  assert.equal(dpop.pathname, "/datasets/3/new");
  assert.deepEqual(Object.fromEntries(dpop.searchParams), {
    kind: "train",
    like: "7",
    objective: "dpop",
    beta: "0.2",
    length_normalize: "true",
    dpop_lambda: "0.0123",
  });
  const shift = address("dpo_shift_lambda", "dpo_shift").searchParams;
  assert.deepEqual(shift.getAll("dpo_shift_lambda"), ["0.0123"]);
  assert.equal(address("sft_coef", "simpo").searchParams.get("simpo_gamma"), "0.7");
});

test("a hit rate stands beside the best guess that is the same for all", () => {
  const check = {
    pairs: 10,
    forecast_fall_fell: 3,
    forecast_fall_not: 2,
    not_forecast_fell: 1,
    not_forecast_not: 4,
    hit_rate: 0.7,
    base_rate: 0.6,
  };
  assert.equal(
    hitSentence(check),
    "The sign was right for 7 of 10 pairs (70 %); the same guess for every pair would be right for 60 %. Of 4 " +
      "preferred responses that fell, 3 had been forecast to. Of 5 forecast to fall, 2 did not.",
  );
  const quiet = { ...check, forecast_fall_fell: 0, forecast_fall_not: 0, not_forecast_fell: 0, not_forecast_not: 10 };
  assert.match(hitSentence(quiet), /No preferred response fell\. None had been forecast to fall\.$/);
});
