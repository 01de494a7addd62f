// The probes at a glance: which pairs are displaced, since when, and what took their mass. It is
// also where one is chosen.

import { h } from "../lib/dom.js";
import { aligned, clip, probability, probabilityChange, visible } from "../lib/format.js";
import { STILL } from "../lib/histories.js";
import { tokenView } from "../lib/token-view.js";

/** A probe in a few words: its two tokens at the fork, or its prompt. */
export function probeName(probe) {
  if (probe.kind === "prompt") return clip(probe.name ?? visible(probe.prompt.trim()), 40);
  const token = (tokens) => clip(visible(tokens[Math.min(probe.fork_position, tokens.length - 1)] ?? ""), 12);
  return `${probe.pair}: ${token(probe.preferred_tokens)} › ${token(probe.dispreferred_tokens)}`;
}

const sum = (logprobs) =>
  logprobs?.length && !logprobs.includes(null) ? logprobs.reduce((total, value) => total + value, 0) : null;
const difference = (a, b) => (a === null || b === null || a === undefined || b === undefined ? null : a - b);

/** What is known of each probe: where it began and where it is. */
export class Glances {
  constructor() {
    this.byPair = new Map();
  }

  of(pair) {
    if (!this.byPair.has(pair)) this.byPair.set(pair, { first: null, last: null });
    return this.byPair.get(pair);
  }

  /** A row of the stream. */
  put(row) {
    this.see(
      row.pair,
      row.step,
      sum(row.preferred_logprobs),
      sum(row.dispreferred_logprobs),
      row.gainers[0] ?? null,
      row.group_probs,
    );
  }

  /** What /probes/{pair} says, of few points or many. groupNames: the order of its groups. */
  putSeries(pair, series, groupNames) {
    series.steps.forEach((step, i) => {
      const isLast = i === series.steps.length - 1;
      this.see(
        pair,
        step,
        sum(series.preferred?.logprobs?.[i]),
        sum(series.dispreferred?.logprobs?.[i]),
        isLast ? (series.gainers[0] ?? null) : null,
        groupNames.map((name) => series.fork.groups[name]?.[i] ?? null),
      );
    });
  }

  see(pair, step, preferred, dispreferred, gainer, groups) {
    const glance = this.of(pair);
    const seen = { step, preferred, dispreferred, gainer, groups };
    if (!glance.first || step < glance.first.step) glance.first = seen;
    if (!glance.last || step >= glance.last.step) glance.last = seen;
  }

  /** {step, preferred, dispreferred, margin, isDisplaced, gainer, groups}: changes since the start. */
  changes(pair) {
    const { first, last } = this.of(pair);
    if (!first) return null;
    const preferred = difference(last.preferred, first.preferred);
    const dispreferred = difference(last.dispreferred, first.dispreferred);
    const margin = difference(preferred, dispreferred);
    return {
      step: last.step,
      preferred,
      dispreferred,
      margin,
      gainer: last.gainer,
      groups: last.groups,
      isDisplaced: preferred !== null && margin !== null && preferred < -STILL && margin > STILL,
    };
  }
}

/** The probes as a table. Those that lost most of their preferred response come first once the run
 *  is over; while it goes on the order stays, so that nothing moves under the pointer.
 *  onsets: pair → step, where it is known. */
export function probeTable(probes, glances, { shownPair, isOver, onsets, onchoose }) {
  const known = probes.map((probe) => ({ probe, now: glances.changes(probe.pair), onset: onsets.get(probe.pair) }));
  const pairs = known.filter(({ probe }) => probe.kind !== "prompt");
  if (isOver) pairs.sort((a, b) => (a.now?.preferred ?? 0) - (b.now?.preferred ?? 0));
  const format = aligned(
    pairs.flatMap(({ now }) => [now?.preferred, now?.dispreferred, now?.margin]),
    3,
  );
  const prompts = known.filter(({ probe }) => probe.kind === "prompt");
  const pick = (probe) =>
    h(
      "button",
      {
        type: "button",
        class: "pick",
        "aria-pressed": String(probe.pair === shownPair),
        onclick: () => onchoose(probe.pair),
      },
      probeName(probe),
    );
  const row = ({ probe, now, onset }) =>
    h(
      "tr",
      { class: probe.pair === shownPair ? "chosen" : null },
      h("td", {}, pick(probe)),
      h("td", { class: "num" }, format(now?.preferred)),
      h("td", { class: "num narrow-hide" }, format(now?.dispreferred)),
      h("td", { class: "num narrow-hide" }, format(now?.margin)),
      h("td", {}, displacedCell(now, onset)),
      h(
        "td",
        { class: "narrow-hide" },
        now?.gainer ? [tokenView(now.gainer.token), ` ${probabilityChange(now.gainer.change, 3)}`] : "–",
      ),
    );
  const promptRow = ({ probe, now }) =>
    h(
      "tr",
      { class: probe.pair === shownPair ? "chosen" : null },
      h("td", {}, pick(probe)),
      h(
        "td",
        { colspan: "5", class: "small" },
        (probe.groups_list ?? []).map((group, i) => [
          i ? ", " : "",
          tokenView(group.name),
          ` ${probability(now?.groups?.[i], 3)}`,
        ]),
      ),
    );
  const head = (text, name = "", extra = {}) => h("th", { class: name, ...extra }, text);
  return h(
    "div",
    { class: "table-wrap probe-list" },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, "Probes; choose one to see its curves"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head("Pair: y+ › y−"),
          head("Δ log p(y+), nats", "num"),
          head("Δ log p(y−), nats", "num narrow-hide"),
          head("Margin", "num narrow-hide"),
          head("Displaced"),
          head("Top gainer", "narrow-hide"),
        ),
      ),
      h("tbody", {}, pairs.map(row), prompts.map(promptRow)),
    ),
  );
}

function displacedCell(now, onset) {
  if (now?.preferred === null || now?.preferred === undefined) return "–";
  if (!now.isDisplaced) return h("span", { class: "quiet" }, "no");
  return h("span", { class: "tag flagged" }, Number.isFinite(onset) ? `since step ${onset}` : "yes");
}
