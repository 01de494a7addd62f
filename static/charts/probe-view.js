// One probe: its curves at the fork, the change of both responses, and token × step.

import { changeFigure, forkFigure, tokensFigure } from "../figures/curves.js";
import { plainText, tokenLabel } from "../figures/frame.js";
import { heatChanges, heatFigure, heatHeight, largestChange } from "../figures/heat.js";
import { segmented, throttle } from "../lib/controls.js";
import { $, h } from "../lib/dom.js";
import { probability, signed, visible } from "../lib/format.js";
import { onsetOf } from "../lib/histories.js";
import { side, text } from "../lib/pair-view.js";
import { tokenView } from "../lib/token-view.js";
import { Chart } from "./chart.js";

const HEAT_MS = 1000;
const SMALL_PROBABILITY = 0.1;
const MOST_MOVERS = 8;
const NO_FORK = {
  steps: [],
  preferred: [],
  dispreferred: [],
  other: [],
  groups: [],
  preferredToken: "",
  dispreferredToken: "",
};
const NO_CHANGE = { steps: [], preferred: [], dispreferred: [] };
const NO_HEAT = { steps: [], tokens: [], logprobs: [] };

export class ProbeView {
  /** onzoom([from, to]): someone looks closer at these steps. */
  constructor(run, onzoom) {
    this.run = run;
    this.onzoom = onzoom;
    this.history = null;
    this.isLog = false;
    this.wasScaleChosen = false;
    this.scale = segmented(
      "Scale",
      [
        ["linear", "Linear"],
        ["log", "Log"],
      ],
      "linear",
      (choice) => {
        this.isLog = choice === "log";
        this.wasScaleChosen = true;
        this.fork.redraw();
        this.tokens.redraw();
      },
    );
    this.fork = this.forkChart();
    this.change = this.changeChart();
    this.tokens = this.tokensChart();
    this.heats = [
      this.heatChart("preferred", "Tokens of the preferred response"),
      this.heatChart("dispreferred", "Tokens of the dispreferred response"),
    ];
    this.news = h("div", { class: "pair about" });
    this.drawNewsSoon = throttle(() => this.drawNews(), HEAT_MS);
    this.drawHeats = throttle(() => this.heats.forEach((chart) => chart.append()), HEAT_MS);
  }

  forkChart() {
    return new Chart($("#chart-fork"), {
      title: "At the fork",
      formula: "p(token | prompt, common beginning)",
      name: `run-${this.run.id}-fork`,
      why:
        "The fork is the first position where the two responses differ. There one distribution holds both " +
        "next tokens; what neither keeps goes to other tokens. Bands are token groups.",
      controls: this.scale,
      onzoom: this.onzoom,
      figure: (colors) => forkFigure(this.forkNumbers(), colors, { log: this.isLog }),
      describe: () => this.forkInWords(),
      csv: () => {
        const { steps, preferredProb, dispreferredProb, otherProb, groups } = this.history;
        return {
          step: steps,
          preferred_prob: preferredProb,
          dispreferred_prob: dispreferredProb,
          other_prob: otherProb,
          ...Object.fromEntries(groups.map((group) => [`group ${group.name}`, group.probs])),
        };
      },
    });
  }

  forkNumbers() {
    const { history } = this;
    if (!history) return NO_FORK;
    const name = (token) => `“${tokenLabel(token, 14)}”`;
    return {
      steps: history.steps,
      preferred: history.preferredProb,
      dispreferred: history.dispreferredProb,
      other: history.isPrompt ? history.steps.map(() => null) : history.otherProb,
      groups: history.groups.map((group) => ({ ...group, name: plainText(visible(group.name)) })),
      preferredToken: name(history.preferredToken),
      dispreferredToken: name(history.dispreferredToken),
    };
  }

  forkInWords() {
    const { history } = this;
    if (!history?.steps.length) return "";
    const parts = history.isPrompt
      ? []
      : [
          ["preferred", history.preferredProb],
          ["dispreferred", history.dispreferredProb],
          ["all other", history.otherProb],
        ];
    return (
      [...parts, ...history.groups.map((group) => [group.name, group.probs])]
        .map(([name, probs]) => `${name} from ${probability(probs[0])} to ${probability(probs.at(-1))}`)
        .join(", ") + "."
    );
  }

  tokensChart() {
    const movers = () => this.history?.movers(MOST_MOVERS) ?? [];
    return new Chart($("#chart-tokens"), {
      title: "Tokens that moved most",
      formula: "p(token | prompt, common beginning)",
      name: `run-${this.run.id}-moving-tokens`,
      onzoom: this.onzoom,
      why:
        "The probability of single next tokens at every step: of those that are followed, the ones whose " +
        "change since the start is largest.",
      figure: (colors) =>
        tokensFigure(
          this.history?.steps ?? [],
          movers().map(({ token, probs }) => ({ name: `“${tokenLabel(token, 14)}”`, probs, role: this.roleOf(token) })),
          colors,
          { log: this.isLog },
        ),
      describe: () =>
        movers()
          .map(({ token, probs }) => `${visible(token)} from ${probability(probs[0])} to ${probability(probs.at(-1))}`)
          .join(", "),
      csv: () =>
        Object.fromEntries([
          ["step", this.history.steps],
          ...movers().map(({ token, probs }) => [`token ${token}`, probs]),
        ]),
    });
  }

  /** What a token is at the fork: of y+, of y−, or neither. */
  roleOf(token) {
    const { isPrompt, preferredToken, dispreferredToken } = this.history;
    if (isPrompt) return null;
    if (token === preferredToken) return "preferred";
    return token === dispreferredToken ? "dispreferred" : null;
  }

  changeChart() {
    return new Chart($("#chart-change"), {
      title: "Change of log-probability",
      formula: "Δ log p(y) = Σ_k Δ log p(y_k | x, y_<k)",
      why:
        "The whole response, end token included, against step 0. Both falling while their distance grows " +
        "is likelihood displacement.",
      name: `run-${this.run.id}-change`,
      onzoom: this.onzoom,
      figure: (colors) => changeFigure(this.changes(), colors, { onset: this.onset() }),
      describe: () => this.changeInWords(),
      csv: () => ({
        step: this.history.steps,
        preferred_change: this.history.changes.preferred,
        dispreferred_change: this.history.changes.dispreferred,
      }),
    });
  }

  changes() {
    return this.history ? { steps: this.history.steps, ...this.history.changes } : NO_CHANGE;
  }

  /** The step from which the shown pair is displaced, or null. */
  onset() {
    if (!this.history || this.history.isPrompt || this.run.config.objective === "cross_entropy") return null;
    const { preferred, dispreferred } = this.history.changes;
    return onsetOf(this.history.steps, preferred, dispreferred);
  }

  changeInWords() {
    const { preferred, dispreferred } = this.changes();
    if (!preferred.length) return "";
    const onset = this.onset();
    return (
      `Preferred ${signed(preferred.at(-1))} nats, dispreferred ${signed(dispreferred.at(-1))} nats.` +
      (onset === null ? "" : ` Displaced from step ${onset}.`)
    );
  }

  heatChart(kind, title) {
    const rows = () => this.history[`${kind}Logprobs`];
    const tokens = () => this.history.probe[`${kind}_tokens`];
    return new Chart($(`#chart-heat-${kind}`), {
      title,
      name: `run-${this.run.id}-tokens-${kind}`,
      onzoom: this.onzoom,
      why:
        "Change of each token's log-probability since step 0, given the prompt and the tokens before it. " +
        "Blue gained, orange lost; both maps share one scale.",
      formula: "Δ log p(y_k | x, y_<k)",
      // The two maps stand side by side and are as high as the longer one needs.
      height: () => {
        const probe = this.history?.probe;
        return heatHeight(probe ? Math.max(probe.preferred_tokens.length, probe.dispreferred_tokens.length) : 0);
      },
      figure: (colors) =>
        heatFigure(
          this.history?.steps.length > 1
            ? { steps: this.history.steps, tokens: tokens(), logprobs: rows(), limit: this.heatLimit() }
            : NO_HEAT,
          colors,
        ),
      describe: () =>
        this.history?.steps.length > 1
          ? heatChanges(rows(), tokens())
              .map((row, k) => `${visible(tokens()[k])}: ${signed(row.at(-1))}`)
              .slice(0, 20)
              .join(", ")
          : "",
      csv: () =>
        Object.fromEntries([
          ["step", this.history.steps],
          ...tokens().map((token, k) => [`${k + 1} ${token}`, rows().map((row) => row[k])]),
        ]),
    });
  }

  heatLimit() {
    const { probe, preferredLogprobs, dispreferredLogprobs } = this.history;
    return Math.max(
      largestChange(heatChanges(preferredLogprobs, probe.preferred_tokens)),
      largestChange(heatChanges(dispreferredLogprobs, probe.dispreferred_tokens)),
    );
  }

  /** Another probe. */
  show(history) {
    this.history = history;
    $("[data-of-pairs]").hidden = history.isPrompt;
    $("#chart-change").hidden = history.isPrompt;
    this.fork.retitle(history.isPrompt ? "Right after the prompt" : "At the fork");
    this.chooseScale();
    this.drawAbout();
    this.redraw();
  }

  /** A row was put into the history that is shown. */
  update(isAppended) {
    for (const chart of [this.fork, this.change, this.tokens]) isAppended ? chart.append() : chart.redraw();
    this.drawHeats();
    this.drawNewsSoon();
  }

  redraw() {
    for (const chart of [this.fork, this.change, this.tokens, ...this.heats]) chart.redraw();
  }

  /** Small probabilities can only be seen on a logarithmic scale, beside "all other". */
  chooseScale() {
    const { history } = this;
    if (this.wasScaleChosen || !history.steps.length) return;
    const shown = history.isPrompt
      ? history.groups.map((group) => group.probs[0])
      : [history.preferredProb[0], history.dispreferredProb[0]];
    this.isLog = Math.max(...shown) < SMALL_PROBABILITY;
    this.scale.choose(this.isLog ? "log" : "linear");
  }

  /** The probe itself, which stays, under what became of it, which changes while someone reads. */
  drawAbout() {
    const { probe, isPrompt } = this.history;
    const summary = `${isPrompt ? "The" : `Pair ${probe.pair}: the`} prompt as the model reads it`;
    const wasOpen = $("[data-probe-about] details")?.open;
    $("[data-probe-about]").replaceChildren(
      this.news,
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
              side("preferred", this.response(probe.preferred_tokens)),
              side("dispreferred", this.response(probe.dispreferred_tokens)),
            ),
      ),
    );
    this.drawNews();
  }

  drawNews() {
    const { verdict } = this.history;
    const parts = [verdict ? h("p", { class: "probe-verdict" }, verdict) : null, this.facts()];
    this.news.replaceChildren(...parts.filter(Boolean));
  }

  /** When it began, in a line. The sentence above says the rest. */
  facts() {
    const onset = this.onset();
    if (onset === null) return null;
    return h(
      "p",
      { class: "small quiet" },
      `Displaced since step ${onset}: from there on y+ stays less likely than ` +
        "at the start while the margin is positive.",
    );
  }

  response(tokens) {
    return h(
      "div",
      { class: "text" },
      tokens.map((token, k) => {
        const view = tokenView(token);
        if (k === this.history.probe.fork_position) {
          view.classList.add("fork");
          view.title = "the fork";
        }
        return [view, " "];
      }),
    );
  }
}
