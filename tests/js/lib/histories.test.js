import assert from "node:assert/strict";
import { test } from "node:test";
import { Detail, rangeOf } from "../../../static/lib/detail.js";
import { MetricHistory } from "../../../static/lib/metric-history.js";
import { ProbeHistory } from "../../../static/lib/probe-history.js";
import { ProbeSnapshots } from "../../../static/lib/probe-snapshots.js";

test("a step that comes twice takes the place of the first", () => {
  const history = new MetricHistory(["loss"]);
  const appended = [
    [1, 10],
    [2, 20],
    [4, 40],
    [2, 21],
    [3, 30],
    [4, 41],
    [5, 50],
  ].map(([step, loss]) => history.put({ step, loss }));
  assert.deepEqual(history.steps, [1, 2, 3, 4, 5]);
  assert.deepEqual(history.columns.loss, [10, 21, 30, 41, 50]);
  assert.deepEqual(appended, [true, true, true, false, false, false, true]);
});

test("a history that grows too long forgets points but no peak", () => {
  const history = new MetricHistory(["loss"]);
  for (let step = 1; step <= 20_000; step += 1) history.put({ step, loss: step === 777 ? 99 : 1 });
  history.merge([
    { step: 500, loss: 5 },
    { step: 501, loss: 6 },
  ]);
  const { steps, columns } = history;
  assert.ok(steps.length <= 6002);
  assert.ok(steps.every((step, i) => i === 0 || steps[i - 1] < step));
  const at = (step) => columns.loss[steps.indexOf(step)];
  assert.deepEqual([steps[0], steps.at(-1), at(777), at(500), at(501)], [1, 20_000, 99, 5, 6]);
});

test("steps with numbers that are not finite are counted", () => {
  const history = new MetricHistory(["loss"]);
  history.put({ step: 1, loss: null, nonfinite: ["loss"] });
  history.put({ step: 2, loss: 1, nonfinite: [] });
  assert.equal(history.nonfiniteSteps, 1);
});

test("further metrics are listed by name, and drawn at the steps at which they were logged", () => {
  const history = new MetricHistory(["loss"]);
  assert.deepEqual([history.otherNames(), history.otherColumn()], [[], { steps: [], values: [] }]);
  history.merge([
    { step: 1, extra: { entropy: 2, epoch: 0.1 } },
    { step: 2, extra: null },
    { step: 3, extra: { entropy: null } },
  ]);
  history.put({ step: 4, extra: { eval_loss: 7 } });
  history.other = "entropy";
  assert.deepEqual(history.otherNames(), ["entropy", "epoch", "eval_loss"]);
  assert.deepEqual(history.otherColumn(), { steps: [1, 3], values: [2, null] });
  history.cut(2);
  assert.deepEqual(history.otherColumn(), { steps: [1], values: [2] });
});

test("the further metric on show keeps its peak, too", () => {
  const history = new MetricHistory(["loss"]);
  history.other = "entropy";
  for (let step = 1; step <= 7000; step += 1) history.put({ step, loss: 1, extra: { entropy: step === 777 ? 99 : 1 } });
  assert.ok(history.rows.length < 7000);
  assert.equal(Math.max(...history.otherColumn().values), 99);
});

const watched = ["a", "b", "c"].map((token, i) => ({ token_id: i, token }));
const probe = {
  pair: 0,
  kind: "pair",
  prompt: "",
  watched,
  groups_list: [],
  preferred_tokens: ["a"],
  dispreferred_tokens: ["b"],
  fork_position: 0,
};
const series = { steps: [], moved_mass: [], fork: {}, gainers: [], losers: [], ledger_step: null };
const row = (step, more = {}) => ({
  step,
  watched_probs: [],
  group_probs: [],
  gainers: [],
  losers: [],
  rest_change: 0,
  ...more,
});

test("the tokens that moved most come with their probabilities", () => {
  const history = new ProbeHistory(probe, series);
  [
    [0.1, 0.5, 0.2],
    [0.15, 0.3, null],
    [0.2, 0.1, 0.21],
  ].forEach((probs, step) => {
    history.putRow(row(step, { watched_probs: probs }));
  });
  assert.deepEqual(history.movers(2), [
    { token: "b", probs: [0.5, 0.3, 0.1] },
    { token: "a", probs: [0.1, 0.15, 0.2] },
  ]);
});

test("changes count from the first step, and a token without a number leaves a gap", () => {
  const history = new ProbeHistory(probe, series);
  history.putRow(row(0, { preferred_logprobs: [-1, -2], dispreferred_logprobs: [-1] }));
  history.putRow(row(1, { preferred_logprobs: [-2, -2], dispreferred_logprobs: [null] }));
  assert.deepEqual(history.changes, { preferred: [0, -1], dispreferred: [0, null] });
});

test("a snapshot holds the first and the last step, whatever order they come in", () => {
  const snapshots = new ProbeSnapshots();
  assert.equal(snapshots.changes(3), null);
  for (const [step, preferred, dispreferred] of [
    [5, -2, -4],
    [0, -1, -1],
    [3, -9, -9],
  ]) {
    snapshots.put(row(step, { pair: 3, preferred_logprobs: [preferred], dispreferred_logprobs: [dispreferred] }));
  }
  const { step, preferred, dispreferred, margin, isDisplaced } = snapshots.changes(3);
  assert.deepEqual([step, preferred, dispreferred, margin, isDisplaced], [5, -1, -3, 2, true]);
});

test("detail is fetched once and only of a run that is known coarsely", async () => {
  const asked = [];
  const load = async (query) => {
    asked.push(query);
    return { decimated: false };
  };
  const detail = new Detail(load, () => {});
  detail.begin({ decimated: false });
  await detail.show([10, 20]);
  detail.begin({ decimated: true });
  await detail.show([9.5, 20.2]);
  await detail.show([11, 19]);
  assert.deepEqual(asked, ["points=1500&from_step=9&to_step=21"]);
});

test("a zoom has a range", () => {
  assert.deepEqual(rangeOf({ "xaxis.range[0]": 1.5, "xaxis.range[1]": 9 }), [1.5, 9]);
  assert.equal(rangeOf({ "xaxis.autorange": true }), null);
  assert.equal(rangeOf({ "yaxis.range[0]": 1, "yaxis.range[1]": 2 }), null);
});
