// The data doctor: examples of each kind, with what was seen marked; marking kinds; checking again.

import { api, pageData } from "../lib/api.js";
import { diff, tokensOf } from "../lib/diff.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { RELATIONS } from "../lib/issues.js";
import { side } from "../lib/pair-view.js";

/** @typedef {{pair: number, row: number | null, other: number | null, detail: string | null, prompt: string,
 *    preferred: string, dispreferred: string}} Example */

/** Kinds whose detail is a part of the text. */
const MARKED = ["leftover_markup", "broken_text", "unclosed_block"];
/** Kinds of pairs whose responses hardly differ. */
const COMPARED = ["near_identical", "duplicate", "contradiction"];

const dataset = pageData();
const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));

/** Both responses, by character or word, with what is not shared marked. @param {Example} example */
function compared({ preferred, dispreferred }) {
  const [a, b] = [tokensOf(preferred, null), tokensOf(dispreferred, null)];
  const shared = diff(a, b);
  const marked = (words, isShared) =>
    h(
      "div",
      { class: "diff" },
      words.map((word, i) => h("span", { class: isShared[i] ? "same" : "only" }, word)),
    );
  return [marked(a, shared.a), marked(b, shared.b)];
}

/** A text with every occurrence of a part marked. @param {string} text @param {string | null} part */
function withMarks(text, part) {
  if (!part) return h("div", { class: "text" }, text);
  const pieces = text.split(part);
  return h(
    "div",
    { class: "text" },
    pieces.flatMap((piece, i) => (i ? [h("mark", {}, part), piece] : [piece])),
  );
}

/** @param {string} kind @param {Example} example */
function exampleView(kind, example) {
  const part = MARKED.includes(kind) ? example.detail : null;
  const [preferred, dispreferred] = COMPARED.includes(kind)
    ? compared(example)
    : [withMarks(example.preferred, part), withMarks(example.dispreferred, part)];
  const link = (pair, words) => h("a", { href: `/datasets/${dataset.id}?pair=${pair}#pair-${pair}` }, words);
  return h(
    "article",
    { class: "pair" },
    h(
      "div",
      { class: "pair-head" },
      h("strong", {}, link(example.pair, `Pair ${example.pair}`)),
      example.row ? h("span", {}, `row ${example.row}`) : null,
      example.other === null ? null : link(example.other, `${RELATIONS[kind] ?? "see"} pair ${example.other}`),
      example.detail ? h("span", {}, example.detail) : null,
    ),
    h("div", { class: "turns" }, h("div", { class: "turn" }, h("span", {}, "prompt"), withMarks(example.prompt, part))),
    h("div", { class: "sides" }, side("preferred", preferred), side("dispreferred", dispreferred)),
  );
}

/** What was found of one kind, made when its row is first opened. @param {HTMLDetailsElement} row */
function showExamples(row) {
  const { kind } = row.dataset;
  const host = $("[data-examples]", row);
  if (row.open && !host.childElementCount) {
    host.replaceChildren(...dataset.examples[kind].map((example) => exampleView(kind, example)));
  }
}

for (const row of $$("[data-kind]")) {
  row.addEventListener("toggle", () => showExamples(row));
}

function showMarks() {
  const marked = $$('[data-kinds] [name="exclude_issue"]:checked').length;
  for (const button of $$("[data-with-marks]")) button.disabled = !marked;
  $("[data-marked]").textContent = marked
    ? `${count(marked)} ${marked === 1 ? "kind" : "kinds"} marked.`
    : "Mark kinds to leave several out at once.";
}
$("[data-kinds]")?.addEventListener("change", showMarks);
if ($("[data-kinds]")) showMarks(); // the browser may have kept the marks

$("[data-check]").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  button.disabled = true;
  button.textContent = "Checking…";
  try {
    await api(`/datasets/${dataset.id}/doctor`, { method: "POST" });
    location.reload();
  } catch (problem) {
    showProblem(problem);
    button.disabled = false;
    button.textContent = "Check again";
  }
});

$("[data-model]")?.addEventListener("change", (event) => event.currentTarget.submit());

$("[data-check-model]")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  button.disabled = true;
  try {
    const config = { model: button.dataset.checkModel };
    const run = await api("/runs", { method: "POST", body: { kind: "check", dataset_id: dataset.id, config } });
    location.assign(`/runs/${run.id}`);
  } catch (problem) {
    showProblem(problem);
    button.disabled = false;
  }
});
