import assert from "node:assert/strict";
import { test } from "node:test";
import { changeFigure, forkFigure, tokensFigure } from "../../../static/figures/curves.js";
import { stepAxis } from "../../../static/figures/frame.js";
import { assertClose } from "../approx.js";
import { COLORS } from "./colors.js";

const fork = (changes = {}) => ({
  steps: [0, 1, 2],
  preferred: [0.5, 0.4, 0.3],
  dispreferred: [0.2, 0.1, 0.05],
  other: [0.3, 0.5, 0.65],
  groups: [{ name: "affirmative", probs: [0.1, 0.2, 0.4] }],
  preferredToken: "“No”",
  dispreferredToken: "“Never”",
  ...changes,
});

test("steps of note stand on the time axis of the fork, one text below the other", () => {
  const marks = [
    { step: 1, text: "displaced from step 1" },
    { step: 10, text: "trough 0.05" },
  ];
  const { layout } = forkFigure(fork(), COLORS, { marks });
  assert.deepEqual(
    layout.shapes.map(({ x0, x1 }) => [x0, x1]),
    [
      [1, 1],
      [10, 10],
    ],
  );
  const [onset, trough] = layout.annotations;
  assert.ok(onset.y > trough.y);
  assert.deepEqual([onset.xanchor, trough.xanchor], ["left", "right"]);
  assert.ok(!("shapes" in forkFigure(fork(), COLORS).layout));
});

test("the fork draws each outcome in its own color", () => {
  const lines = forkFigure(fork(), COLORS).data;
  assert.deepEqual(
    lines.map((line) => [line.name, line.line.color, line.y]),
    [
      ["affirmative", "#100000", [0.1, 0.2, 0.4]],
      ["preferred “No”", "#0000ff", [0.5, 0.4, 0.3]],
      ["dispreferred “Never”", "#ff8800", [0.2, 0.1, 0.05]],
      ["all other", "#888888", [0.3, 0.5, 0.65]],
    ],
  );
});

test("token groups are bands from zero behind the lines", () => {
  const lines = forkFigure(fork(), COLORS).data;
  assert.deepEqual(
    lines.map((line) => line.fill ?? null),
    ["tozeroy", null, null, null],
  );
});

test("a free prompt has its words and no responses", () => {
  const nothing = [null, null, null];
  const lines = forkFigure(fork({ preferred: nothing, dispreferred: nothing, other: nothing }), COLORS).data;
  assert.deepEqual(
    lines.map((line) => line.name),
    ["affirmative"],
  );
});

test("the fork on a log scale says so on its axis", () => {
  const { layout } = forkFigure(fork(), COLORS, { log: true });
  assert.equal(layout.yaxis.type, "log");
  assert.equal(layout.yaxis.title.text, "probability (log)");
});

for (const [lowest, ticks] of [
  [0.0001, { dtick: 1, tickformat: "~g" }],
  // Between two powers of ten there may be no mark at all.
  [0.02, { tickformat: "~g" }],
]) {
  test(`a log scale of few decades is marked between them: from ${lowest}`, () => {
    const numbers = fork({ groups: [], dispreferred: [lowest, 0, null] });
    const axis = forkFigure(numbers, COLORS, { log: true }).layout.yaxis;
    const found = Object.fromEntries(["dtick", "tickformat"].filter((name) => name in axis).map((n) => [n, axis[n]]));
    assert.deepEqual(found, ticks);
  });
}

test("single tokens have the colors of their responses or their own", () => {
  const roles = ["dispreferred", null, "preferred", null];
  const tokens = roles.map((role, i) => ({ name: String(i), probs: [0.1, null, 0.1 + i / 10], role }));
  const lines = tokensFigure([0, 1, 2], tokens, COLORS).data;
  assert.deepEqual(
    lines.map((line) => line.line.color),
    ["#ff8800", "#100000", "#0000ff", "#200000"],
  );
  assertClose(lines[3].y, [0.1, null, 0.4]);
});

test("there is no step between two steps", () => {
  assert.deepEqual(stepAxis([0, 1, 2]), { title: "step", dtick: 1 });
  assert.deepEqual(stepAxis([0, 10, 20]), { title: "step" });
  assert.deepEqual(stepAxis([]), { title: "step" });
});

test("the fork before the first step is empty and one step is a point", () => {
  const none = fork({ steps: [], preferred: [], dispreferred: [], other: [], groups: [] });
  const one = fork({ steps: [0], preferred: [0.5], dispreferred: [0.2], other: [0.3], groups: [] });
  assert.deepEqual(
    forkFigure(none, COLORS).data.map((line) => line.x),
    [[], [], []],
  );
  const [first] = forkFigure(one, COLORS).data;
  assert.deepEqual([first.mode, first.x, first.y], ["markers", [0], [0.5]]);
});

test("what is no number is a gap and never zero", () => {
  const change = { steps: [0, 1, 2], preferred: [0, null, -1], dispreferred: [0, -1, null] };
  const lines = changeFigure(change, COLORS).data;
  assert.deepEqual(
    lines.map((line) => line.y),
    [
      [0, null, -1],
      [0, -1, null],
    ],
  );
  assert.ok(!lines.some((line) => line.connectgaps));
  const odd = changeFigure({ ...change, preferred: [0, Number.NaN, Number.POSITIVE_INFINITY] }, COLORS).data;
  assert.deepEqual(odd[0].y, [0, null, null]);
});

test("the change marks the step from which the pair is displaced", () => {
  const change = { steps: [0, 5, 10], preferred: [0, -1, -2], dispreferred: [0, -3, -9] };
  const { layout } = changeFigure(change, COLORS, { onset: 5 });
  assert.deepEqual(
    layout.shapes.map((shape) => [shape.x0, shape.x1]),
    [[5, 5]],
  );
  assert.equal(layout.annotations[0].text.trim(), "displaced from step 5");
  assert.ok(!("shapes" in changeFigure(change, COLORS).layout));
});
