// What the run would need of a worker's memory, and whether one has it: asked anew as the settings change.

import { api } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { newestOnly } from "../../lib/newest.js";
import { whenChanged } from "./changes.js";

const WAIT_MS = 400;
/** Settings that change nothing about the memory. */
const WITHOUT_EFFECT = /^(selection|probes|probe_every|token_groups|opposite_groups|ledger|answer_every)/;

/** @typedef {{worker: string, sentence: string, verdict: "fits" | "tight" | "too large"}} OnWorker */
/** @typedef {{level: "ok" | "warn" | "unknown", sentence: string, workers: OnWorker[]}} Capacity */

/** Whether a setting of this name is sent. @param {string} name */
export const matters = (name) => !WITHOUT_EFFECT.test(name);

/**
 * What is shown: the sentence of the best worker, and those of the others behind it.
 *
 * @param {Capacity} capacity
 */
export function drawn({ level, sentence, workers }) {
  const others = workers.slice(1);
  return h(
    "div",
    { class: level === "warn" ? "notice warn" : "foreseen" },
    level === "warn" ? h("strong", {}, "There may be no worker with the memory for this.") : null,
    h("p", {}, sentence),
    others.length
      ? h(
          "details",
          {},
          h("summary", {}, `${others.length} more worker${others.length === 1 ? "" : "s"}`),
          h("ul", {}, ...others.map((one) => h("li", {}, one.sentence))),
        )
      : null,
  );
}

export class CapacityPreview {
  /**
   * @param {{
   *   host: HTMLElement, form: HTMLElement, dataset: number, kind: string, read: () => Record<string, any> | null,
   * }} parts read: the run's settings, null where one of them is not right
   */
  constructor({ host, form, dataset, kind, read }) {
    this.host = host;
    this.body = { kind, dataset_id: dataset };
    this.read = read;
    this.newest = newestOnly();
    this.asked = "";
    whenChanged(form, matters, () => this.show(), WAIT_MS);
    this.show();
  }

  async show() {
    const config = this.read();
    if (config === null) return;
    const asked = JSON.stringify(config);
    if (asked === this.asked) return;
    this.asked = asked;
    try {
      const found = await this.newest(api("/runs/capacity", { method: "POST", body: { ...this.body, config } }));
      if (found) this.host.replaceChildren(drawn(found));
    } catch {
      // The server says what is wrong with the settings when the run is started.
      this.host.replaceChildren();
    }
  }
}
