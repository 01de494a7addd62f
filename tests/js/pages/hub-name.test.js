import assert from "node:assert/strict";
import { test } from "node:test";
import { hubName } from "../../../static/pages/datasets/hub-name.js";

test("a name is as it was typed, and that of a page that was pasted", () => {
  assert.equal(hubName(" org/name "), "org/name");
  assert.equal(hubName("https://huggingface.co/datasets/org/name"), "org/name");
  assert.equal(hubName("https://huggingface.co/datasets/org/name/viewer/default/train?row=3"), "org/name");
  assert.equal(hubName("hf://datasets/org/name"), "org/name");
  assert.equal(hubName("../x"), "../x");
});
