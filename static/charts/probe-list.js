// The table of probes: which pairs are displaced, since which step, and which token gained most. A row selects its
// probe.

import { h } from "../lib/dom.js";
import { aligned, clip, probability, probabilityChange, visible } from "../lib/format.js";
import { kindNow, severityTag } from "../lib/severity.js";
import { tokenView } from "../lib/token-view.js";

/** @import { ProbeSnapshots } from "../lib/probe-snapshots.js" */
/** @import { Probe } from "../lib/types.js" */

/** A short label: a pair's two tokens at the fork, or a prompt's name or text. @param {Probe} probe */
export function probeName(probe) {
  if (probe.kind === "prompt") return clip(probe.name ?? visible(probe.prompt.trim()), 40);
  const token = (tokens) => clip(visible(tokens[Math.min(probe.fork_position, tokens.length - 1)] ?? ""), 12);
  return `${probe.pair}: ${token(probe.preferred_tokens)} › ${token(probe.dispreferred_tokens)}`;
}

/**
 * Once the run is over, the pairs whose preferred response lost most come first; until then the order stays, so that
 * no row moves under the pointer.
 *
 * @param {Probe[]} probes
 * @param {ProbeSnapshots} snapshots
 * @param {{
 *   shownPair: number | null, isOver: boolean, onsets: Map<number, number | null>, onchoose: (pair: number) => void,
 * }} options onsets: pair → the step from which on it is displaced, where that is known
 */
export function probeTable(probes, snapshots, { shownPair, isOver, onsets, onchoose }) {
  const known = probes.map((probe) => ({ probe, now: snapshots.changes(probe.pair), onset: onsets.get(probe.pair) }));
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
      h("td", {}, displacedCell(now, onset, probe.displacement_kind)),
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

function displacedCell(now, onset, kind) {
  if (now?.preferred === null || now?.preferred === undefined) return "–";
  const known = kindNow(kind, now.isDisplaced);
  if (!now.isDisplaced) return known ? severityTag(known, false) : h("span", { class: "quiet" }, "no");
  const since = Number.isFinite(onset) ? h("span", { class: "small quiet" }, ` since step ${onset}`) : null;
  return [severityTag(known, true), since];
}
