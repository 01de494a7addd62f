// What a probe is (its prompt and the tokens of both responses) under what happened to it so far.

import { $, h } from "../lib/dom.js";
import { side, text } from "../lib/pair-view.js";
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
   * Draw what happened, which changes while the run is active.
   *
   * @param {string | null | undefined} sentence the server's
   * @param {number | null} onset the step from which on the pair is displaced
   */
  drawHeadline(sentence, onset) {
    const parts = [
      sentence ? h("p", { class: "probe-verdict" }, sentence) : null,
      onset === null
        ? null
        : h(
            "p",
            { class: "small quiet" },
            `Displaced since step ${onset}: from there on y+ stays less likely than ` +
              "at the start while the margin is positive.",
          ),
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
