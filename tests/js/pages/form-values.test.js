import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBounds, FieldError, promptProbes, READ, templateOf } from "../../../static/pages/new_run/form-values.js";

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

test("opposite groups are read two a line", () => {
  assert.deepEqual(READ.opposites("yes, no\n\n warm ,cold"), [
    ["yes", "no"],
    ["warm", "cold"],
  ]);
  assert.throws(() => READ.opposites("yes"), FieldError);
  assert.throws(() => READ.opposites("yes, no, maybe"), FieldError);
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

test("arguments of a template are read one a line, as JSON or else as text", () => {
  assert.deepEqual(
    READ.arguments('enable_thinking: false\n\ndate_string = 26 Jul 2024\nlevels: [1, "a"]\nflag: True'),
    {
      enable_thinking: false,
      date_string: "26 Jul 2024",
      levels: [1, "a"],
      flag: true,
    },
  );
  assert.throws(() => READ.arguments("enable_thinking"), FieldError);
});

test("a template is taken from a file, or from a tokenizer's configuration", () => {
  assert.equal(templateOf("\n{{ messages }}", "own.jinja"), "\n{{ messages }}");
  assert.equal(templateOf('{"chat_template": "a"}', "tokenizer_config.json"), "a");
  assert.throws(() => templateOf("{}", "tokenizer_config.json"), FieldError);
  assert.throws(() => templateOf("{", "tokenizer_config.json"), FieldError);
});
