import assert from "node:assert/strict";
import { test } from "node:test";
import { bars, offsetSentences } from "../../../static/pages/new_run/objective.js";

const OFFSETS = {
  pairs: 10,
  unscored: 0,
  not_above: 0,
  no_ratio: 0,
  weakened: 1,
  strengthened: 9,
  columns: ["score_chosen", "score_rejected"],
  median: 1.25,
  histogram: { start: -1, width: 1, counts: [1, 4, 5] },
};

test("offsets say how many pairs are weakened, and by which columns", () => {
  const [only, ...rest] = offsetSentences(OFFSETS, "refuse");
  assert.match(only, /^By score_chosen and score_rejected, 9 pairs of 10 must reach a larger margin/);
  assert.match(only, /1 pair a smaller one/);
  assert.deepEqual(rest, []);
});

test("pairs without an offset are counted by reason, with what becomes of them", () => {
  const some = { ...OFFSETS, unscored: 2, no_ratio: 1 };
  const [, refused] = offsetSentences(some, "refuse");
  assert.equal(
    refused,
    "3 pairs without an offset (2 without two scores, 1 with a score that is not above zero): a run with them is " +
      "refused.",
  );
  assert.match(offsetSentences(some, "zero")[1], /they train as under dpo\.$/);
});

test("without any score only that is said", () => {
  const none = { ...OFFSETS, unscored: 10, median: null, columns: [], histogram: { start: 0, width: 1, counts: [] } };
  assert.equal(offsetSentences(none, "refuse").length, 1);
});

test("bars stand where their bins are, those below zero apart", () => {
  const drawn = bars(OFFSETS.histogram);
  assert.deepEqual(
    drawn.map(({ from, to, height, isWeak }) => [from, to, height, isWeak]),
    [
      [-1, 0, 20, true],
      [0, 1, 80, false],
      [1, 2, 100, false],
    ],
  );
});
