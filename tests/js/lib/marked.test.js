import assert from "node:assert/strict";
import { test } from "node:test";
import { partsOf } from "../../../static/lib/marked.js";

const shown = (text, search) =>
  partsOf(text, search)
    .map((part) => (part.found ? `[${part.text}]` : part.text))
    .join("");

test("every place is marked, in upper and lower case", () => {
  assert.equal(shown("I can’t. No, I CAN’T!", "can’t"), "I [can’t]. No, I [CAN’T]!");
});

test("nothing is marked where nothing is looked for or found", () => {
  assert.deepEqual(partsOf("text", ""), [{ text: "text", found: false }]);
  assert.deepEqual(partsOf("text", "other"), [{ text: "text", found: false }]);
});

test("signs of a pattern stand for themselves", () => {
  assert.equal(shown("a.b (c) a?b", "a.b"), "[a.b] (c) a?b");
  assert.equal(shown("(c) and [d]\\", "(c)"), "[(c)] and [d]\\");
  assert.equal(shown("one\\two", "\\"), "one[\\]two");
});

test("letters whose lower case is longer shift nothing", () => {
  assert.equal(shown("İstanbul is İstanbul", "is"), "İstanbul [is] İstanbul");
});
