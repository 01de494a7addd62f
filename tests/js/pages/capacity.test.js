import assert from "node:assert/strict";
import { test } from "node:test";
import { matters } from "../../../static/pages/new_run/capacity.js";

test("settings that change nothing about the memory are not asked about", () => {
  for (const name of ["selection.limit", "probes.count", "probe_every", "token_groups", "answer_every"])
    assert.equal(matters(name), false);
  for (const name of ["model", "batch_size", "lora", "lora.rank", "dtype", "stream", "refresh_filter.reward_model"])
    assert.equal(matters(name), true);
});
