import assert from "node:assert/strict";
import { test } from "node:test";

import { newestOnly } from "../../../static/lib/newest.js";

/** @param {number} milliseconds @param {string} value */
const after = (milliseconds, value) => new Promise((resolve) => setTimeout(resolve, milliseconds, value));

test("of two answers that come in the wrong order, the older question's is left out", async () => {
  const newest = newestOnly();
  assert.deepEqual(await Promise.all([newest(after(20, "old")), newest(after(1, "new"))]), [undefined, "new"]);
});

test("an answer that nothing overtook counts, and so does its error", async () => {
  const newest = newestOnly();
  assert.equal(await newest(after(1, "first")), "first");
  await assert.rejects(newest(Promise.reject(new Error("away"))), /away/);
});

test("the error of an overtaken question is left out", async () => {
  const newest = newestOnly();
  const failing = newest(Promise.reject(new Error("late")));
  assert.equal(await newest(after(1, "new")), "new");
  assert.equal(await failing, undefined);
});
