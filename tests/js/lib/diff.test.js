import assert from "node:assert/strict";
import { test } from "node:test";
import { answerSpans } from "../../../static/lib/answers.js";
import { diff, tokensOf } from "../../../static/lib/diff.js";
import { differences } from "../../../static/lib/differences.js";

for (const [ours, theirs, a, b, fork] of [
  [["a", "b"], ["a", "c"], [true, false], [true, false], 1],
  [["a", "b", "c"], ["a", "c"], [true, false, true], [true, true], 1],
  [["x"], ["y"], [false], [false], 0],
  [["a"], ["a"], [true], [true], 1],
  [[], ["a"], [], [false], 0],
]) {
  test(`the diff marks the longest common subsequence: ${ours} and ${theirs}`, () => {
    assert.deepEqual(diff(ours, theirs), { a, b, fork });
  });
}

test("token ends count characters, not UTF-16 units", () => {
  assert.deepEqual(tokensOf("😀 yes", [1, 5]), ["😀", " yes"]);
});

test("without token ends a text is cut into words", () => {
  assert.deepEqual(tokensOf("a b", null), ["a ", "b"]);
  assert.deepEqual(tokensOf("", null), []);
});

test("answers are listed once a span with what is new in each", () => {
  const items = [
    [0, "No, never."],
    [5, "No, never."],
    [10, "Yes, never."],
  ].map(([step, text]) => ({ step, text, ended: true }));
  const spans = answerSpans(items);
  assert.deepEqual(
    spans.map((span) => [span.from, span.to, span.text]),
    [
      [0, 5, "No, never."],
      [10, 10, "Yes, never."],
    ],
  );
  assert.deepEqual(
    spans[1].words.filter((word) => word.isNew).map((word) => word.text),
    ["Yes,"],
  );
  assert.ok(!spans[0].words.some((word) => word.isNew));
});

test("differing settings are listed by their dotted names", () => {
  const one = { beta: 0.1, probes: { pairs: [1], count: 4 }, lora: null, token_groups: {} };
  const two = { beta: 0.1, probes: { pairs: [2], count: 4 }, lora: { rank: 4 } };
  const found = Object.fromEntries(differences([one, two]));
  assert.deepEqual(found["probes.pairs"], [[1], [2]]);
  assert.deepEqual(found["lora.rank"], [undefined, 4]);
  assert.deepEqual(Object.keys(found).sort(), ["lora.rank", "probes.pairs"]);
});
