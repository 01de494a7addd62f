import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBounds, FieldError, promptProbes, READ } from "../../../static/pages/new_run/form-values.js";

test("prompts are read as they were typed", () => {
  const row = (prompt, watch = "", name = "") => ({ prompt, watch, name });
  const chat = [{ role: "user", content: "Is it?" }];
  const rows = [row("Is it? ", "Yes, No ,", "mine"), row(""), row(JSON.stringify(chat))];
  assert.deepEqual(promptProbes(rows), [
    { prompt: "Is it? ", watch: ["Yes", "No"], name: "mine" },
    { prompt: chat, watch: [] },
  ]);
});

test("pairs are read as ordinals and ranges", () => {
  assert.deepEqual(READ.ordinals("0, 4, 10-12"), [0, 4, 10, 11, 12]);
  assert.throws(() => READ.ordinals("4-2"), FieldError);
  assert.throws(() => READ.ordinals("x"), FieldError);
});

test("token groups are read one a line", () => {
  assert.deepEqual(READ.groups("yes: Yes, Sure\n\nno: No"), { yes: ["Yes", "Sure"], no: ["No"] });
  assert.throws(() => READ.groups("yes"), FieldError);
});

test("numbers are checked against the bounds of their control", () => {
  assert.throws(() => READ.integer("1.5"), FieldError);
  assert.throws(() => READ.number(""), FieldError);
  const control = { min: "1", max: "5", dataset: {} };
  checkBounds(READ.number("5"), control);
  assert.throws(() => checkBounds(0, control), FieldError);
  assert.throws(() => checkBounds(6, control), FieldError);
  assert.throws(() => checkBounds(0, { dataset: { above: "0" } }), FieldError);
});
