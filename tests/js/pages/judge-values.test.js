import assert from "node:assert/strict";
import { test } from "node:test";
import { judgeConfig, lines } from "../../../static/pages/new_judge/values.js";

const VALUES = {
  judge: "keywords",
  keywords: " I cannot \n\nNo,\nI cannot\n",
  keyword_characters: "240",
  classifier: "bert",
  label: "refuses",
  threshold: "",
  reads: "answer",
  device: "auto",
  endpoint_model: " judge-7b ",
  question: "Is {answer} a refusal?\n",
};

const config = (changes = {}) => {
  const values = { ...VALUES, ...changes };
  // As it is sent: what is undefined is not.
  return JSON.parse(JSON.stringify(judgeConfig((field) => values[field])));
};

test("only the settings of the chosen judge are sent", () => {
  assert.deepEqual(config(), { judge: "keywords", keywords: ["I cannot", "No,"], keyword_characters: 240 });
  assert.deepEqual(config({ judge: "classifier" }), {
    judge: "classifier",
    classifier: "bert",
    label: "refuses",
    reads: "answer",
    device: "auto",
  });
  assert.deepEqual(config({ judge: "endpoint" }), {
    judge: "endpoint",
    endpoint_model: "judge-7b",
    question: "Is {answer} a refusal?",
  });
});

test("a threshold of zero is a threshold, and a reward model has no label", () => {
  const found = config({ judge: "classifier", threshold: "0", label: "" });
  assert.equal(found.threshold, 0);
  assert.ok(!("label" in found));
});

test("what is no number is left to the server to refuse", () => {
  assert.equal(config({ judge: "classifier", threshold: "1e" }).threshold, "1e");
  assert.ok(!("keyword_characters" in config({ keyword_characters: " " })));
});

test("lines are trimmed, once each, without blank ones", () => {
  assert.deepEqual(lines("a\r\n b\n\na"), ["a", "b"]);
  assert.deepEqual(lines(" \n"), []);
});
