// What the chosen objective does to the two incentives, and odpo's offsets in this dataset, shown as they are chosen.

import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { count, number, signed } from "../../lib/format.js";
import { newestOnly } from "../../lib/newest.js";
import { whenChanged } from "./changes.js";

const WAIT_MS = 250;

/** @typedef {{start: number, width: number, counts: number[]}} Histogram */
/** @typedef {{
 *    pairs: number, unscored: number, not_above: number, no_ratio: number, weakened: number, strengthened: number,
 *    columns: string[], median: number | null, histogram: Histogram,
 *  }} Offsets */

/** "3 pairs", "1 pair". @param {number} size */
const pairs = (size) => `${count(size)} pair${size === 1 ? "" : "s"}`;

/**
 * What the offsets come to, as sentences. Pairs without one are what a run refuses, or trains as dpo does.
 *
 * @param {Offsets} offsets
 * @param {string} unscored the setting of that name
 */
export function offsetSentences(offsets, unscored) {
  const { columns, weakened, strengthened, median } = offsets;
  const without = offsets.unscored + offsets.not_above + offsets.no_ratio;
  const found = [];
  if (median !== null) {
    found.push(
      `By ${columns.join(" and ")}, ${pairs(strengthened)} of ${count(offsets.pairs)} must reach a larger margin ` +
        `than under dpo, and ${pairs(weakened)} a smaller one, as their scores differ too little ` +
        `(median ${signed(median)}).`,
    );
  }
  if (without) {
    const reasons = [
      [offsets.unscored, "without two scores"],
      [offsets.not_above, "whose preferred response does not score higher"],
      [offsets.no_ratio, "with a score that is not above zero"],
    ]
      .filter(([size]) => size)
      .map(([size, text]) => `${count(Number(size))} ${text}`);
    const then = unscored === "zero" ? "they train as under dpo" : "a run with them is refused";
    found.push(`${pairs(without)} without an offset (${reasons.join(", ")}): ${then}.`);
  }
  return found;
}

/** Where the bins of a histogram lie, in percent of its width and height. @param {Histogram} histogram */
export function bars({ start, width, counts }) {
  const most = Math.max(...counts);
  return counts.map((size, i) => ({
    size,
    from: start + i * width,
    to: start + (i + 1) * width,
    height: (100 * size) / most,
    isWeak: start + (i + 0.5) * width < 0,
  }));
}

export class ObjectivePreview {
  /**
   * @param {{
   *   incentives: HTMLElement, offsets: HTMLElement, form: HTMLElement, dataset: number, names: string[],
   *   read: () => Record<string, any> | null,
   * }} parts read: the objective's settings, null where one of them is not right
   */
  constructor({ incentives, offsets, form, dataset, names, read }) {
    this.incentives = incentives;
    this.offsets = offsets;
    this.dataset = dataset;
    this.read = read;
    this.newestIncentives = newestOnly();
    this.newestOffsets = newestOnly();
    whenChanged(
      form,
      (name) => names.includes(name),
      () => this.show(),
      WAIT_MS,
    );
    this.show();
  }

  async show() {
    const config = this.read();
    if (config === null) return;
    const query = new URLSearchParams(Object.entries(config).map(([name, value]) => [name, String(value)]));
    this.showOffsets(config);
    try {
      const found = await this.newestIncentives(api(`/objectives/incentives?${query}`));
      if (!found) return;
      const { formula, sentence, notices } = found;
      this.incentives.replaceChildren(
        h("code", { class: "formula" }, formula),
        sentence,
        ...notices.map((/** @type {string} */ text) => h("strong", { class: "doubt" }, text)),
      );
    } catch {
      // The server says what is wrong with the settings when the run is started.
      this.incentives.replaceChildren();
    }
  }

  /** @param {Record<string, any>} config */
  async showOffsets({ objective, odpo_alpha, odpo_offset, odpo_unscored }) {
    this.offsets.hidden = objective !== "odpo";
    if (this.offsets.hidden) return;
    const address = `/datasets/${this.dataset}/offsets?${new URLSearchParams({ odpo_alpha, odpo_offset })}`;
    try {
      const found = await this.newestOffsets(api(address));
      if (found) this.drawOffsets(found, odpo_unscored);
    } catch (problem) {
      this.offsets.replaceChildren(problem.message);
    }
  }

  /** @param {Offsets} found @param {string} unscored */
  drawOffsets(found, unscored) {
    const said = offsetSentences(found, unscored).map((text) => h("p", { class: "small" }, text));
    const { counts, start, width } = found.histogram;
    if (!counts.length) return this.offsets.replaceChildren(...said);
    const drawn = bars(found.histogram).map(({ size, from, to, height, isWeak }) =>
      h("span", {
        class: isWeak ? "weak" : null,
        style: { height: `${size ? Math.max(height, 2) : 0}%` },
        title: `${number(from)} to ${number(to)}: ${pairs(size)}`,
      }),
    );
    this.offsets.replaceChildren(
      h(
        "figure",
        { class: "offset-histogram" },
        h("figcaption", { class: "small quiet" }, "alpha × offset of the dataset’s pairs; below zero: weakened"),
        h("div", { class: "offset-bars", role: "img", "aria-label": said.map((p) => p.textContent).join(" ") }, drawn),
        h(
          "div",
          { class: "offset-axis small quiet" },
          h("span", {}, signed(start)),
          h("span", {}, signed(start + width * counts.length)),
        ),
      ),
      ...said,
    );
  }
}
