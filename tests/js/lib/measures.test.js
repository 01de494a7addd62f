import assert from "node:assert/strict";
import { test } from "node:test";
import { columnLabels, labeled, measureOf } from "../../../static/lib/measures.js";

const MEASURES = [
  { name: "ches", label: "CHES score", short_label: "CHES", formula: "f", help: "h", unit: null, low_is_alike: false },
  { name: "logprob", label: "log p", short_label: "log p", formula: "f", help: "h", unit: "nats", low_is_alike: false },
];

test("measures come from the page's JSON element, in its order", () => {
  globalThis.document = {
    getElementById: (id) => (id === "measures" ? { textContent: JSON.stringify(MEASURES) } : null),
  };
  assert.deepEqual(measureOf("ches"), MEASURES[0]);
  assert.deepEqual(labeled(["logprob", "ches"]), [
    ["logprob", "log p"],
    ["ches", "CHES score"],
  ]);
  assert.deepEqual(columnLabels(), [
    ["ches", "CHES"],
    ["logprob", "log p, nats"],
  ]);
  assert.throws(() => measureOf("nothing"), /There is no measure “nothing”/);
});
