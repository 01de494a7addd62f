// Making a dataset of the judged answers.

import { api } from "../../lib/api.js";
import { $, h, problemNotice } from "../../lib/dom.js";
import { count } from "../../lib/format.js";

let isReady = false;

/** Show what pairs the answers would make; the form is listened to once. */
export function showPairs(run, { prompts }) {
  $("[data-pairs-card]").hidden = false;
  $("[data-kinds]").replaceChildren(kinds(prompts));
  if (isReady) return;
  isReady = true;
  const ties = $("[data-ties]");
  if (!prompts.different && !prompts.both_positive && !prompts.both_negative && prompts.by_score) ties.value = "score";
  const showSeed = () => {
    $("[data-seed-label]").hidden = ties.value !== "random";
  };
  ties.addEventListener("change", showSeed);
  showSeed();
  $("[data-pairs-form]").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = $("[data-make-pairs]");
    button.disabled = true;
    const host = $("[data-pairs-result]");
    const body = { prefer: $("[data-prefer]").value, ties: ties.value, seed: Number($("[data-seed]").value) };
    try {
      host.replaceChildren(madeView(await api(`/runs/${run.id}/pairs`, { method: "POST", body })));
    } catch (problem) {
      host.replaceChildren(problemNotice(problem));
    }
    button.disabled = false;
  });
}

/** @param {any} found counts of prompts */
function kinds(found) {
  const parts = [
    [found.different, "with answers of both verdicts"],
    [found.both_positive, "with positive answers only"],
    [found.both_negative, "with negative answers only"],
    [found.by_score, "with scores alone"],
    [found.others, "with fewer than two judged answers"],
  ].filter(([number]) => number);
  return h("span", {}, "Prompts: ", parts.map(([number, words]) => `${count(number)} ${words}`).join(", "), ".");
}

/** Why prompts, or pairs, are not in the dataset. */
const REASONS = {
  single: "have a single answer",
  unjudged: "have fewer than two judged answers",
  same_text: "have the same answer twice",
  tied: "have equal scores or none",
  skipped: "have one verdict alone",
};

function madeView(made) {
  const became = [
    [made.different, "gave a pair of different verdicts"],
    [made.both_positive, "one of two positive answers"],
    [made.both_negative, "one of two negative answers"],
    [made.by_score, "one by score alone"],
    ...Object.entries(made.left_out).map(([reason, number]) => [number, REASONS[reason]]),
  ].filter(([number]) => number);
  const rejected = made.rejected
    ? ` ${count(made.rejected)} of these pairs could not be stored, for example with an empty answer: the dataset’s ` +
      "page says why."
    : "";
  return h(
    "div",
    { class: "notice" },
    h("p", {}, h("a", { href: `/datasets/${made.dataset_id}` }, made.name), `: ${count(made.pairs)} pairs.`),
    h(
      "p",
      { class: "small quiet" },
      `Of ${count(made.prompts)} prompts, ${became.map(([number, words]) => `${count(number)} ${words}`).join(", ")}.`,
      rejected,
    ),
  );
}
