import assert from "node:assert/strict";
import { test } from "node:test";
import { toCsv } from "../../../static/lib/csv.js";

test("CSV is quoted and holds no formula", () => {
  const columns = { token: ['a"b', "=1+1", ","], n: [1, null, -2] };
  assert.deepEqual(toCsv(columns).trimEnd().split("\n"), ["token,n", '"a""b",1', "'=1+1,", '",",-2']);
});

test("CSV has empty cells for numbers that are not finite", () => {
  assert.equal(toCsv({ n: [Number.NaN, Number.POSITIVE_INFINITY, undefined] }), "n\n\n\n\n");
});
