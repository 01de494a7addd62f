import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../../../static/lib/format.js";

for (const [value, text] of [
  [0, "0.00"],
  [-1234.5, "−1,235"],
  [0.0123456, "0.0123"],
  [12.345, "12.3"],
  [1e-7, "1.00e−7"],
  [null, "–"],
  [Number.NaN, "–"],
]) {
  test(`numbers have three digits and a true minus: ${value}`, () => {
    assert.equal(format.number(value), text);
  });
}

for (const [value, text, change] of [
  [0.25, "0.2500", "+0.2500"],
  [0, "0.0000", "+0.0000"],
  [5e-5, "0.0001", "+0.0001"],
  [3e-9, "3e−9", "+3e−9"],
  [null, "–", "–"],
]) {
  test(`a tiny probability is told by its order and is never nothing: ${value}`, () => {
    assert.equal(format.probability(value), text);
    assert.equal(format.probabilityChange(value), change);
  });
}

test("spaces and line ends of tokens are visible", () => {
  assert.equal(format.visible(" a\n"), "␣a↵");
  assert.equal(format.visible(""), "∅");
  assert.equal(format.visible("\0\x1b\x7f\uffff"), "␀␛␡�");
});

test("the decimal points of a column align", () => {
  const show = format.aligned([0.5, -12.25, null]);
  assert.deepEqual([0.5, -12.25, null].map(show), ["0.50", "−12.25", "–"]);
});

test("how long ago something was is told in its largest unit", () => {
  const noon = Date.parse("2026-01-03T12:00:00Z");
  assert.equal(format.ago("2026-01-03T11:59:01+00:00", noon), "just now");
  assert.equal(format.ago("2026-01-03T11:54:30+00:00", noon), "5 min ago");
  assert.equal(format.ago("2026-01-03T06:30:00+00:00", noon), "5 h ago");
  assert.equal(format.ago("2026-01-01T11:00:00+00:00", noon), "2 d ago");
  assert.equal(format.ago("2026-01-03T12:00:05+00:00", noon), "just now"); // the browser's clock is slow
});

test("shares, durations and sizes have their units", () => {
  assert.equal(format.percent(0.125, 1), "12.5 %");
  assert.equal(format.duration(59.6), "1 min 0 s");
  assert.equal(format.duration(7500), "2 h 5 min");
  assert.equal(format.duration(null), "");
  assert.deepEqual([format.bytes(999), format.bytes(1500), format.bytes(15e9)], ["999 B", "1.50 KB", "15.0 GB"]);
  assert.equal(format.signed(0.5), "+0.500");
  assert.equal(format.clip("abcdef", 4), "abc…");
});
