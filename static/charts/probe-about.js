// What a probe is (its prompt and the tokens of both responses) under what happened to it so far.

import { $, h } from "../lib/dom.js";
import { side, text } from "../lib/pair-view.js";
import { destinationsInWords, severityFacts, severityTag } from "../lib/severity.js";
import { tokenView } from "../lib/token-view.js";

/** @import { ProbeHistory } from "../lib/probe-history.js" */

export class ProbeAbout {
  constructor() {
    this.headline = h("div", { class: "pair about" });
  }

  /** Draw the probe itself, which does not change. @param {ProbeHistory} history */
  show(history) {
    const { probe, isPrompt } = history;
    const summary = `${isPrompt ? "The" : `Pair ${probe.pair}: the`} prompt as the model reads it`;
    const wasOpen = $("[data-probe-about] details")?.open;
    $("[data-probe-about]").replaceChildren(
      this.headline,
      h(
        "div",
        { class: "pair about" },
        h(
          "details",
          { open: wasOpen },
          h("summary", { class: "small" }, summary),
          h("div", { class: "small quiet prompt" }, text(probe.prompt)),
        ),
        isPrompt
          ? null
          : h(
              "div",
              { class: "sides" },
              side("preferred", response(probe.preferred_tokens, probe.fork_position)),
              side("dispreferred", response(probe.dispreferred_tokens, probe.fork_position)),
            ),
      ),
    );
  }

  /**
   * Draw what happened, which changes while the run is active: in short where the head of the page does not say it
   * already, in numbers, and in words once they are asked for.
   *
   * @param {ProbeHistory} history
   * @param {number | null} onset the step from which on the pair is displaced
   * @param {boolean} isToldAbove whether the head of the page tells of this probe
   */
  drawHeadline({ verdict, verdictShort, displacement, destinationOnsets }, onset, isToldAbove) {
    const tag = isToldAbove ? null : severityTag(displacement?.kind, onset !== null);
    const facts = [tag, ...severityFacts(displacement)].filter((fact) => fact !== null);
    const receivers = destinationsInWords(destinationOnsets);
    const words = [verdict === verdictShort ? "" : verdict, receivers].filter(Boolean);
    const wasOpen = $("details", this.headline)?.open;
    const parts = [
      isToldAbove || !verdictShort ? null : h("p", { class: "probe-verdict" }, verdictShort),
      facts.length ? h("div", { class: "facts-line" }, facts) : null,
      words.length
        ? h(
            "details",
            { open: wasOpen },
            h("summary", { class: "small" }, "In words, with the numbers at the fork"),
            words.map((text) => h("p", { class: "small" }, text)),
          )
        : null,
    ];
    this.headline.replaceChildren(...parts.filter((part) => part !== null));
  }
}

/** @param {string[]} tokens @param {number} fork its index */
function response(tokens, fork) {
  return h(
    "div",
    { class: "text" },
    tokens.map((token, k) => {
      const view = tokenView(token);
      if (k === fork) {
        view.classList.add("fork");
        view.title = "the fork";
      }
      return [view, " "];
    }),
  );
}
