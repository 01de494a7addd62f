import assert from "node:assert/strict";
import { test } from "node:test";
import { flowFigure, flows } from "../../../static/figures/flow.js";
import { makeLedger, recordedLedger } from "../../../static/figures/ledger.js";
import { hits, predictedOf, rankPairs } from "../../../static/figures/predicted.js";
import { assertClose } from "../approx.js";
import { COLORS } from "./colors.js";

const TOKENS = [
  { token_id: 1, token: "Yes", initial: 0.1, now: 0.3, predicted: 0.5 },
  { token_id: 2, token: "No", initial: 0.5, now: 0.35, predicted: -0.1 },
  { token_id: 3, token: "Never", initial: 0.2, now: 0.1, predicted: -0.4 },
  { token_id: 4, token: "Sure", initial: 0.05, now: 0.06, predicted: 0.1 },
  { token_id: 5, token: "Maybe", initial: 0.1, now: 0.1, predicted: 0.2 },
];
const sum = (values) => values.reduce((total, value) => total + value, 0);

test("a ledger lists gainers and losers and balances", () => {
  const ledger = makeLedger(TOKENS);
  assert.deepEqual(
    ledger.gainers.map((entry) => entry.token),
    ["Yes", "Sure"],
  );
  assert.deepEqual(
    ledger.losers.map((entry) => entry.token),
    ["No", "Never"],
  );
  const changes = [...ledger.gainers, ...ledger.losers].map((entry) => entry.change);
  assertClose(sum(changes) + ledger.rest, 0, 1e-12);
  assertClose(ledger.rest, 0.04);
});

test("a ledger with room for one balances too", () => {
  const ledger = makeLedger(TOKENS, 1);
  assert.deepEqual([ledger.gainers.length, ledger.losers.length], [1, 1]);
  assertClose(ledger.rest, -0.2 + 0.15);
});

test("predicted ranks count gainers up and losers down", () => {
  const ledger = makeLedger(TOKENS);
  const ranks = Object.fromEntries([...ledger.gainers, ...ledger.losers].map((e) => [e.token, e.predictedRank]));
  assert.deepEqual(ranks, { Yes: 1, Sure: 3, No: -2, Never: -1 });
});

test("a recorded ledger keeps its numbers, and a rest that is not finite stays unknown", () => {
  const entry = { token_id: 1, token: "Yes", initial: 0.1, final: 0.3, change: 0.2 };
  const ledger = recordedLedger([entry], [], null, TOKENS);
  assert.deepEqual(ledger.gainers, [{ ...entry, now: 0.3, predictedRank: 1 }]);
  assert.equal(ledger.rest, null);
});

test("the flow sends out what was lost and brings in what was gained", () => {
  const flow = flows(makeLedger(TOKENS));
  assertClose(
    flow.sources.map((node) => node.change),
    [-0.15, -0.1],
  );
  assertClose(
    flow.targets.map((node) => node.change),
    [0.2, 0.01, 0.04],
  );
  assertClose(sum(flow.links.map((link) => link.value)), 0.25);
  const intoYes = flow.links.filter((link) => link.target === 0).map((link) => link.value);
  assertClose(sum(intoYes), 0.2);
});

test("the flow gathers small changes into all others", () => {
  const flow = flows(makeLedger(TOKENS), 1);
  assert.deepEqual(
    flow.sources.map((node) => node.token),
    ["No", null],
  );
  assertClose(
    flow.targets.map((node) => node.change),
    [0.2, 0.05],
  );
});

test("the flow names each token with its probability before and after", () => {
  const [figure] = flowFigure(makeLedger(TOKENS), COLORS).data;
  assert.equal(figure.node.label[0], "No 0.500 → 0.350");
  assert.ok(figure.node.label.includes("Yes 0.100 → 0.300"));
  assert.equal(figure.node.label.at(-1), "all others +0.040");
});

test("the flow says that as much was gained as was lost", () => {
  const words = flowFigure(makeLedger(TOKENS), COLORS).layout.annotations;
  assert.deepEqual(
    words.map((word) => [word.xanchor, word.text]),
    [
      ["left", "lost 0.250"],
      ["right", "gained 0.250"],
    ],
  );
});

const predicted = (id, rank, actual, change) => ({
  token_id: id,
  token: String(id),
  predicted_rank: rank,
  actual_rank: actual,
  actual_change: change,
});

test("predicted gainers stand beside the actual ones", () => {
  const theory = [predicted(1, 1, 2, 0.1), predicted(2, 2, 500, -0.1), predicted(3, 3, 1, 0.2)];
  const actual = [
    [3, 0.2],
    [1, 0.1],
    [9, 0.05],
  ].map(([id, change]) => ({ token_id: id, token: String(id), change }));
  const pairs = rankPairs(theory, actual);
  assert.deepEqual(
    pairs.map((pair) => [pair.token_id, pair.predictedRank, pair.actualRank]),
    [
      [1, 1, 2],
      [2, 2, null],
      [3, 3, 1],
      [9, null, 3],
    ],
  );
  assert.deepEqual(hits(pairs), { of: 3, predicted: 2 });
});

test("without the server's predictions they come from the watched tokens", () => {
  const watched = [
    { token_id: 1, token: "a", predicted: 0.1 },
    { token_id: 2, token: "b", predicted: 0.3 },
    { token_id: 3, token: "c", predicted: -0.3 },
  ];
  const found = predictedOf(watched, [{ token_id: 1, change: 0.2 }]);
  assert.deepEqual(
    found.map((entry) => [entry.token_id, entry.predicted_rank, entry.actual_rank]),
    [
      [2, 1, null],
      [1, 2, 1],
    ],
  );
});
