// The page of a generation run: its answers by prompt, searched and filtered, also while they come.

import { api, pageData } from "../lib/api.js";
import { setQueryParameters, throttle } from "../lib/controls.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { count, number, percent } from "../lib/format.js";
import { follow } from "../lib/live.js";
import { partsOf } from "../lib/marked.js";
import { newestOnly } from "../lib/newest.js";
import { promptView, text } from "../lib/pair-view.js";
import { headOf } from "./_run_head.js";
import { shardsOf } from "./_run_shards.js";

const PAGE = 10;
const REFRESH_MS = 2000;
const TYPING_MS = 300;
const run = pageData();
const head = headOf(run);
const showShards = shardsOf(run);
const filters = $("[data-filters]");
const FIELDS = ["search", "ended", "pair"];

let isActive = ["queued", "running"].includes(run.status);
let offset = Number(new URLSearchParams(location.search).get("offset") ?? 0) || 0;
const newest = newestOnly();
/** What each prompt that is shown was drawn from, as JSON: one that has not changed is left alone. */
let drawn = new Map();

/** The filters that are set, as parameters of the API. */
function wanted() {
  const given = FIELDS.map((name) => [name, filters.elements[name].value.trim()]).filter(([, value]) => value !== "");
  return new URLSearchParams(given);
}

async function show() {
  const query = wanted();
  for (const link of $$("[data-download]")) {
    const download = new URLSearchParams(query);
    download.set("format", link.dataset.download);
    link.href = `/api/v1/runs/${run.id}/generations?${download}`;
  }
  query.set("offset", String(offset));
  query.set("limit", String(PAGE));
  try {
    const page = await newest(api(`/runs/${run.id}/generations?${query}`));
    if (!page) return;
    // Fewer match than stood on the pages before this one.
    if (!page.items.length && offset && page.total) return move(Math.floor((page.total - 1) / PAGE) * PAGE);
    draw(page);
  } catch (problem) {
    drawn = new Map();
    $("[data-list]").replaceChildren(problemNotice(problem));
    $("[data-pager]").replaceChildren();
  }
}

function draw(page) {
  filters.hidden = !page.answers;
  drawCounts(page);
  const isFiltered = wanted().size > 0;
  $("[data-matching]").textContent = isFiltered
    ? `${count(page.matching)} of ${count(page.answers)} answers match, to ${count(page.total)} prompts`
    : "";
  const host = $("[data-list]");
  if (!page.items.length) {
    drawn = new Map();
    host.replaceChildren(h("p", { class: "quiet" }, nothing(page)));
    $("[data-pager]").replaceChildren();
    return;
  }
  const search = filters.elements.search.value.trim();
  const before = drawn;
  drawn = new Map(
    page.items.map((item) => {
      const key = JSON.stringify([item, search]);
      const old = before.get(item.pair);
      return [item.pair, old?.key === key ? old : { key, node: promptAndAnswers(item, search) }];
    }),
  );
  const nodes = [...drawn.values()].map((one) => one.node);
  if (nodes.length !== host.children.length || nodes.some((node, i) => node !== host.children[i])) {
    host.replaceChildren(...nodes);
  }
  drawPager(page);
}

function nothing(page) {
  if (page.answers) return "No answer matches.";
  return isActive ? "Answers appear as they end." : "No prompt was answered.";
}

function drawCounts({ answers, ended, tokens }) {
  if (!answers) return;
  const facts = [
    `${count(answers)} answer${answers === 1 ? "" : "s"}`,
    `${percent(ended / answers)} ended, ${count(answers - ended)} cut at the limit`,
    `${number(tokens / answers)} tokens on average`,
  ];
  $("[data-counts]").replaceChildren(...facts.map((fact) => h("span", {}, fact)));
}

function drawPager(page) {
  const to = offset + page.items.length;
  const button = (label, disabled, target) =>
    h("button", { type: "button", disabled, onclick: () => move(target, true) }, label);
  const ends = h("span", {}, `Prompts ${count(offset + 1)}–${count(to)} of ${count(page.total)}`);
  const buttons = h(
    "span",
    { class: "actions" },
    button("Previous", offset === 0, offset - PAGE),
    button("Next", to >= page.total, offset + PAGE),
  );
  $("[data-pager]").replaceChildren(ends, ...(page.total > PAGE ? [buttons] : []));
}

function move(target, scroll = false) {
  offset = Math.max(0, target);
  const set = Object.fromEntries(FIELDS.map((name) => [name, wanted().get(name)]));
  setQueryParameters({ ...set, offset: offset || null });
  if (scroll) $("#answers").scrollIntoView({ block: "start" });
  return show();
}

/** One prompt with its answers. */
function promptAndAnswers(item, search) {
  return h(
    "article",
    { class: "pair", id: `pair-${item.pair}` },
    h(
      "div",
      { class: "pair-head" },
      h("strong", {}, `Pair ${item.pair}`),
      h("a", { href: `/datasets/${run.dataset_id}?pair=${item.pair}#pair-${item.pair}` }, "In the dataset"),
    ),
    promptView(item.prompt),
    h(
      "div",
      { class: "sides" },
      item.answers.map((answer) => answerView(answer, search)),
    ),
  );
}

function answerView(answer, search) {
  const body = text(answer.text);
  if (!answer.text) body.replaceChildren(h("span", { class: "quiet" }, "an end token alone"));
  if (search) {
    body.replaceChildren(
      ...partsOf(answer.text, search).map((part) => (part.found ? h("mark", {}, part.text) : part.text)),
    );
  }
  const label = run.config.samples > 1 ? `Answer, sample ${answer.sample}` : "Answer";
  return h(
    "div",
    { class: "side answer", dataset: { sample: answer.sample } },
    h(
      "h3",
      {},
      label,
      h("span", { class: "quiet" }, ` · ${count(answer.tokens)} token${answer.tokens === 1 ? "" : "s"} · `),
      answer.ended
        ? h("span", { class: "quiet" }, "ended")
        : h("span", { class: "tag doubt", title: "At the limit, answer_tokens" }, "cut"),
      h("span", { class: "quiet" }, ` · log p ${number(answer.logprob, 4)}`),
    ),
    body,
  );
}

const parameters = new URLSearchParams(location.search);
for (const name of FIELDS) filters.elements[name].value = parameters.get(name) ?? "";
filters.addEventListener("submit", (event) => event.preventDefault());
let typing = 0;
filters.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => move(0), TYPING_MS);
});

if (isActive) {
  let last = run.status;
  const showSoon = throttle(show, REFRESH_MS);
  follow(run.id, run.revision, {
    status: (now) => {
      head.showProgress(now.progress, now.phase);
      head.hear(now.messages);
      if (now.status !== last) head.refreshHead();
      last = now.status;
    },
    progress: (now) => {
      head.showProgress(now, now.phase);
      showSoon();
      showShards();
    },
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: () => {
      isActive = false;
      head.showConnection(null);
      showShards();
      head.refreshHead();
      show();
    },
  });
}
await show();
