// The charts of one probe: probabilities at the fork, the tokens that moved most, the change of both responses, and
// the heat maps of tokens × steps.

import { changeFigure, forkFigure, tokensFigure } from "../figures/curves.js";
import { plainText, tokenLabel } from "../figures/frame.js";
import { segmented, throttle } from "../lib/controls.js";
import { displacementOnset } from "../lib/displaced.js";
import { $ } from "../lib/dom.js";
import { probability, signed, visible } from "../lib/format.js";
import { Chart } from "./chart.js";
import { ProbeAbout } from "./probe-about.js";
import { TokenHeatMaps } from "./token-heat-maps.js";

/** @import { ProbeHistory } from "../lib/probe-history.js" */

/** The heat maps and the headline are redrawn at most this often while rows arrive. */
const SLOW_MS = 1000;
/** Below it a linear scale beside "all other" shows nothing. */
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

export class ProbeView {
  /**
   * @param {any} run
   * @param {(range: [number, number]) => unknown} onzoom called with the range of steps that is zoomed to
   */
  constructor(run, onzoom) {
    this.run = run;
    this.onzoom = onzoom;
    /** @type {ProbeHistory | null} */
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
    this.heatMaps = new TokenHeatMaps(run, onzoom);
    this.about = new ProbeAbout();
    this.drawHeadlineSoon = throttle(() => this.drawHeadline(), SLOW_MS);
    this.drawHeatMapsSoon = throttle(() => this.heatMaps.append(), SLOW_MS);
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
      figure: (colors) => forkFigure(this.forkNumbers(), colors, { log: this.isLog, marks: this.marks() }),
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

  /** Steps of note on the time axis: where displacement began, and the lowest point of the preferred token. */
  marks() {
    const [onset, trough] = [this.onset(), this.history?.displacement?.drawdown];
    return [
      ...(onset === null ? [] : [{ step: onset, text: `displaced from step ${onset}` }]),
      ...(trough ? [{ step: trough.trough_step, text: `trough ${probability(trough.trough)}` }] : []),
    ];
  }

  forkInWords() {
    const { history } = this;
    if (!history?.steps.length) return "";
    const parts = history.isPrompt
      ? []
      : [
          { name: "preferred", probs: history.preferredProb },
          { name: "dispreferred", probs: history.dispreferredProb },
          { name: "all other", probs: history.otherProb },
        ];
    const words = [...parts, ...history.groups].map(
      ({ name, probs }) => `${name} from ${probability(probs[0])} to ${probability(probs.at(-1))}`,
    );
    return `${words.join(", ")}.`;
  }

  tokensChart() {
    const movers = () => this.history?.movers(MOST_MOVERS) ?? [];
    return new Chart($("#chart-tokens"), {
      title: "Tokens that moved most",
      formula: "p(token | prompt, common beginning)",
      name: `run-${this.run.id}-moving-tokens`,
      onzoom: this.onzoom,
      why:
        "The probability of single next tokens at every step: of those that are watched, the ones whose " +
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

  /** Which response a token continues at the fork; null: neither. @param {string} token */
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
    return displacementOnset(this.history.steps, preferred, dispreferred);
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

  /** Show another probe. @param {ProbeHistory} history */
  show(history) {
    this.history = history;
    this.heatMaps.history = history;
    $("[data-of-pairs]").hidden = history.isPrompt;
    $("#chart-change").hidden = history.isPrompt;
    this.fork.retitle(history.isPrompt ? "Right after the prompt" : "At the fork");
    this.chooseScale();
    this.about.show(history);
    this.drawHeadline();
    this.redraw();
  }

  /** The shown history has a new row. @param {boolean} isAppended */
  update(isAppended) {
    for (const chart of [this.fork, this.change, this.tokens]) {
      if (isAppended) chart.append();
      else chart.redraw();
    }
    this.drawHeatMapsSoon();
    this.drawHeadlineSoon();
  }

  redraw() {
    for (const chart of [this.fork, this.change, this.tokens, this.heatMaps]) chart.redraw();
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

  drawHeadline() {
    this.about.drawHeadline(this.history, this.onset(), this.history.probe.pair === this.run.verdict_pair);
  }
}
