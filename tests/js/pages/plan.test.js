import assert from "node:assert/strict";
import { test } from "node:test";
import { after, listed, numbers, without } from "../../../static/pages/new_study/plan.js";

test("numbers and ranges are read, anything else is refused by name", () => {
  assert.deepEqual(numbers("0, 2-4 1e-7"), [0, 2, 3, 4, 1e-7]);
  assert.deepEqual(numbers(" "), []);
  assert.throws(() => numbers("1, two"), /“two” is no number/);
});

test("what a plan fixed is found again once the field that it depends on is changed", () => {
  const plan = { steps: 5, cells: [1], dataset_sha256: "ab", watched: [3] };
  assert.deepEqual(after(plan, "steps"), plan);
  assert.deepEqual(after(plan, "max_cells"), { steps: 5, dataset_sha256: "ab", watched: [3] });
  assert.deepEqual(after(plan, "dataset_id"), { steps: 5 });
});

test("a field within an object is left out alone", () => {
  assert.deepEqual(without({ judge: "keywords", label: "x" }, "label"), { judge: "keywords" });
  assert.deepEqual(without(undefined, "label"), {});
});

test("lists are written as they are read", () => {
  assert.equal(listed([0, 1]), "0, 1");
  assert.equal(listed(null), "");
  assert.deepEqual(numbers(listed([3, 5])), [3, 5]);
});
