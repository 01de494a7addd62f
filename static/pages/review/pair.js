// Parts of a pair under review: prompt, token diff of the responses, tags, measures, displacement, opinions, history.

import { diff, tokensOf } from "../../lib/diff.js";
import { h } from "../../lib/dom.js";
import { count, number, signed } from "../../lib/format.js";
import { columnLabels } from "../../lib/measures.js";
import { promptView, side } from "../../lib/pair-view.js";

export const VERDICTS = {
  keep: { sign: "✓", key: "k", label: "Keep" },
  drop: { sign: "✕", key: "d", label: "Drop" },
  fix: { sign: "✎", key: "f", label: "Fix" },
  unsure: { sign: "?", key: "u", label: "Unsure" },
};

export function verdictChip(verdict, more = "") {
  if (!verdict) return h("span", { class: "verdict-chip none" }, "not reviewed");
  return h(
    "span",
    { class: `verdict-chip v-${verdict}` },
    h("i", { "aria-hidden": "true" }, VERDICTS[verdict].sign),
    verdict,
    more ? h("span", { class: "quiet" }, ` ${more}`) : null,
  );
}

/** Both responses with their differences marked: by tokens where a score run knows them, else by words. */
export function responses(item) {
  const ends = item.score && !item.score.outdated ? item.score : null;
  const preferred = tokensOf(item.preferred, ends?.preferred_ends);
  const dispreferred = tokensOf(item.dispreferred, ends?.dispreferred_ends);
  const shared = diff(preferred, dispreferred);
  const marked = (name, tokens, isShared) =>
    h(
      "div",
      { class: "diff reading", tabindex: "0", "aria-label": `${name} response` },
      tokens.map((token, k) =>
        h(
          "span",
          {
            class: `${isShared[k] ? "same" : "only"}${k === shared.fork ? " fork" : ""}`,
            title: k === shared.fork ? "the fork" : null,
          },
          token,
        ),
      ),
    );
  return h(
    "div",
    { class: "sides" },
    side("preferred", marked("preferred", preferred, shared.a)),
    side("dispreferred", marked("dispreferred", dispreferred, shared.b)),
  );
}

export function prompt(item) {
  return h("div", { class: "review-prompt" }, promptView(item.prompt));
}

export function tags(item) {
  return [
    item.flagged ? h("span", { class: "tag flagged" }, "⚑ flagged") : null,
    item.text_version > 1 ? h("span", { class: "tag" }, `✎ edited, version ${item.text_version}`) : null,
    item.displacement?.displaced ? h("span", { class: "tag flagged" }, "▼ displaced") : null,
  ];
}

export function measures(item) {
  const { score } = item;
  if (!score)
    return h(
      "p",
      { class: "quiet small" },
      "Not scored yet. A score run says how much displacement a pair is likely to cause.",
    );
  return h(
    "div",
    {},
    h(
      "table",
      { class: "measures" },
      h("caption", { class: "visually-hidden" }, "Measures and their percentile among all pairs"),
      h(
        "tbody",
        {},
        columnLabels()
          .filter(([name]) => score.measures[name])
          .map(([name, label]) => measureRow(label, score.measures[name])),
      ),
    ),
    h(
      "p",
      { class: "quiet small" },
      `${count(score.preferred_tokens)} and ${count(score.dispreferred_tokens)} tokens · `,
      h("a", { href: `/runs/${score.run_id}` }, `score run ${score.run_id}`),
    ),
    score.outdated ? h("p", { class: "small note-ink" }, "Scored before its text was edited.") : null,
  );
}

function measureRow(label, { value, percentile }) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, label),
    h("td", { class: "num" }, number(value, 4)),
    h(
      "td",
      { class: "at" },
      h("div", { class: "at-bar", style: { "--at": `${percentile.toFixed(1)}%` }, "aria-hidden": "true" }, h("i", {})),
    ),
    h(
      "td",
      { class: "num quiet", title: "Percentile among the score run's pairs" },
      `${percentile.toFixed(percentile > 99 && percentile < 100 ? 1 : 0)} %`,
    ),
  );
}

export function displacement(item, run) {
  const { displacement: found } = item;
  if (!found)
    return h(
      "p",
      { class: "quiet small" },
      run ? `Run ${run} has not measured this pair.` : "No training run has measured any pair yet.",
    );
  return h(
    "div",
    {},
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "log p(y+)"),
      h("dd", { class: found.preferred_change < 0 ? "down" : "up" }, `${signed(found.preferred_change)} nats`),
      h("dt", {}, "log p(y−)"),
      h("dd", { class: found.dispreferred_change < 0 ? "down" : "up" }, `${signed(found.dispreferred_change)} nats`),
    ),
    h(
      "p",
      { class: "quiet small" },
      found.displaced ? "Displaced: y+ lost likelihood while the margin grew. " : "Not displaced. ",
      h("a", { href: `/runs/${found.run_id}` }, `Run ${found.run_id}`),
    ),
  );
}

/** Every reviewer's verdict, where any is known. */
export function opinions(item) {
  const said = Object.entries(item.said ?? {});
  if (!said.length) return null;
  const isDisputed = new Set(said.map(([, verdict]) => verdict)).size > 1;
  return h(
    "div",
    { class: "opinions" },
    isDisputed ? h("p", { class: "small note-ink" }, "Reviewers disagree.") : null,
    said.map(([reviewer, verdict]) =>
      h("div", {}, verdictChip(verdict), h("span", { class: "quiet small" }, ` ${reviewer}`)),
    ),
  );
}

const DID = {
  set: "",
  bulk: "with many at once",
  edit: "edited the text",
  clear: "withdrew the verdict",
  undo: "undid a change",
};

export function history({ items, texts, dropped }) {
  const runs = dropped.length ? [h("ul", { class: "history", "data-dropped": "" }, dropped.map(dropping))] : [];
  if (!items.length) return [...runs, h("p", { class: "quiet small" }, "Nobody has reviewed this pair yet.")];
  return [
    ...runs,
    h(
      "ol",
      { class: "history" },
      items.map((change) =>
        h(
          "li",
          { class: change.undone_by ? "undone" : null },
          h(
            "div",
            {},
            verdictChip(change.verdict),
            h("span", { class: "small" }, ` ${change.reviewer || "someone"}`),
            DID[change.action] ? h("span", { class: "quiet small" }, ` ${DID[change.action]}`) : null,
          ),
          change.note ? h("div", { class: "small" }, `“${change.note}”`) : null,
          h(
            "time",
            { class: "quiet small", datetime: change.created_at },
            new Date(change.created_at).toLocaleString(),
          ),
        ),
      ),
    ),
    texts.length
      ? h("details", {}, h("summary", { class: "small" }, `${texts.length} versions of the text`), texts.map(version))
      : null,
  ].filter(Boolean);
}

/** A training run whose filter dropped the pair. */
function dropping({ run_id, run_name, epoch, text, sample_reward, preferred_reward }) {
  return h(
    "li",
    {},
    h(
      "div",
      { class: "small" },
      h("span", { class: "tag flagged" }, "dropped"),
      ` before epoch ${epoch} of `,
      h("a", { href: `/runs/${run_id}#filter` }, `run ${run_id}, ${run_name}`),
      `: the model’s own answer had at least the reward of y+ (${number(sample_reward, 3)} against ` +
        `${number(preferred_reward, 3)}).`,
    ),
    h("details", {}, h("summary", { class: "small" }, "What it wrote"), h("div", { class: "small text" }, text)),
  );
}

function version(text) {
  return h(
    "div",
    { class: "small version" },
    h("strong", {}, `Version ${text.version}`),
    text.version === 1 ? ", as in the file" : text.reviewer ? `, by ${text.reviewer}` : "",
    h("div", { class: "text" }, h("span", { class: "preferred-ink" }, "y+ "), text.preferred),
    h("div", { class: "text" }, h("span", { class: "dispreferred-ink" }, "y− "), text.dispreferred),
  );
}

/** The verdict's buttons; `onverdict(name)`. */
export function verdictButtons(current, onverdict) {
  return h(
    "div",
    { class: "verdicts", role: "group", "aria-label": "Verdict" },
    Object.entries(VERDICTS).map(([name, { sign, key, label }]) =>
      h(
        "button",
        {
          type: "button",
          class: `verdict-button v-${name}`,
          "aria-pressed": String(current === name),
          "aria-keyshortcuts": key,
          onclick: () => onverdict(name),
        },
        h("i", { "aria-hidden": "true" }, sign),
        label,
        h("kbd", {}, key),
      ),
    ),
  );
}
