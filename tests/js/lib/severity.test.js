import assert from "node:assert/strict";
import { test } from "node:test";
import { destinationsInWords, fall, kindNow, severityWord } from "../../../static/lib/severity.js";

test("a kind is named, and a displaced pair without one is displaced", () => {
  assert.equal(severityWord("benign", true), "benign");
  assert.equal(severityWord("kept", false), "kept");
  assert.equal(severityWord(null, true), "displaced");
  assert.equal(severityWord(null, false), "");
  assert.equal(severityWord(undefined, null), "");
});

test("a drawdown tells both ends and both steps", () => {
  const text = fall({ size: 0.3, peak: 0.5, peak_step: 0, trough: 0.2, trough_step: 5 });
  assert.equal(text, "0.3000 (0.5000 → 0.2000, step 0 to 5)");
});

test("destinations are told in the order in which they began", () => {
  assert.equal(destinationsInWords({}), "");
  assert.equal(
    destinationsInWords({ variant: 25, opposite_group: 5 }),
    "What gained most at the fork while displaced: an opposite group from step 5, then other spellings of the " +
      "preferred token from step 25.",
  );
});

test("a kind that newer numbers contradict is not shown", () => {
  assert.equal(kindNow("catastrophic", true), "catastrophic");
  assert.equal(kindNow("benign", false), null);
  assert.equal(kindNow("kept", true), null);
  assert.equal(kindNow("kept", false), "kept");
  assert.equal(kindNow(null, true), null);
});
