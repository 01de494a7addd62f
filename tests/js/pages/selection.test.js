import assert from "node:assert/strict";
import { test } from "node:test";
import { arrangeSelection, controlOf } from "../../../static/pages/new_run/selection.js";

const RULES = {
  exclude_flagged: false,
  measures: [{ score_run: 1, measure: "ln_ches", keep: "lowest", fraction: 0.05 }],
};

test("a control has as many pairs as the rules select, drawn from all", () => {
  assert.deepEqual(controlOf(RULES), { random: { same_size_as: RULES, seed: 0 } });
  assert.deepEqual(controlOf({ ...RULES, limit: 9 }), { random: { same_size_as: RULES, seed: 0 }, limit: 9 });
  assert.deepEqual(
    controlOf(RULES),
    arrangeSelection({ ...RULES, random: { same_size_as: "rules", seed: 0 } }),
    "as the form's own control",
  );
});

test("without rules, or of pairs that are random already, there is no control", () => {
  assert.throws(() => controlOf({ exclude_flagged: false }), /Set rules above/);
  assert.throws(() => controlOf(undefined), /Set rules above/);
  assert.throws(() => controlOf({ ...RULES, random: { count: 5, seed: 0 } }), /at random already/);
});
