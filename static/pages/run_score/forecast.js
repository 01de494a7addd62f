// The forecast of the first step: how many preferred responses would fall, and what each remedy leaves of them.

import { api } from "../../lib/api.js";
import { choice, explained } from "../../lib/controls.js";
import { $, dataTable, h, problemNotice } from "../../lib/dom.js";
import {
  coefficient,
  forecastSentence,
  hitSentence,
  isDownwards,
  OWN_SETTINGS,
  remedySentence,
  restSentence,
  stopOf,
  trainAddress,
} from "../../lib/forecast.js";
import { clip, count, number } from "../../lib/format.js";
import { newestOnly } from "../../lib/newest.js";

/** @type {[string, string][]} */
const OBJECTIVES = [
  ["dpo", "dpo"],
  ["ipo", "ipo"],
  ["slic", "slic"],
  ["simpo", "simpo"],
  ["odpo", "odpo"],
  ["dpo_shift", "dpo shift"],
  ["bdpo", "bdpo"],
  ["cal_dpo", "cal dpo"],
  ["apo_zero", "apo zero"],
  ["alphapo", "alphapo"],
];
/** Beside beta: [label, default, least, most]. @type {Record<string, [string, number, string, string?]>} */
const COEFFICIENTS = {
  simpo_gamma: ["Gamma", 0.5, "0"],
  odpo_alpha: ["Alpha", 1, "0"],
  dpo_shift_lambda: ["Lambda", 0.75, "0.0001", "1"],
  bdpo_lambda: ["Lambda", 0.5, "0.0001", "1"],
  alphapo_alpha: ["Alpha", 0.25, "-10", "10"],
};
const CHECKED_RUNS = 3;
const TITLES = {
  sft_coef: "Add an SFT term",
  dpop_lambda: "Penalize a fall (dpop)",
  dpo_shift_lambda: "Push y− down less (dpo_shift)",
};
const WHY =
  "To first order, log p(y+) falls where the objective pushes y− down so hard, along gradients so much alike, that " +
  "it takes y+ along. Computed from the gradients at the output head, which the scoring pass gives.";
const FORMULA = "falls ⇔ d+/d− < ⟨s+, s−⟩ / ‖s+‖²";

export class ForecastCard {
  /** @param {any} run */
  constructor(run) {
    this.run = run;
    this.newest = newestOnly();
    const coefficients = Object.entries(COEFFICIENTS).map(([name, [, value]]) => [name, value]);
    /** @type {Record<string, any>} */
    this.settings = { objective: "dpo", beta: 0.1, length_normalize: false, ...Object.fromEntries(coefficients) };
    this.host = $("[data-forecast]");
    this.sentence = h("p", { class: "verdict", role: "status" });
    this.rest = h("p", { class: "quiet small" });
    this.remedies = h("div", { class: "columns two" });
    this.worst = h("details", { hidden: true });
    this.earlier = h("p", { class: "small quiet" });
  }

  async start() {
    this.coefficients = Object.entries(COEFFICIENTS).map(([name, [label, , least, most]]) => ({
      name,
      box: this.numberInput(label, name, least, most),
    }));
    const normalize = h("input", {
      type: "checkbox",
      onchange: () => this.change("length_normalize", normalize.checked),
    });
    this.host.replaceChildren(
      h(
        "div",
        { class: "card-head" },
        h("span", { class: "chart-title" }, h("h2", { id: "forecast-title" }, "Forecast"), explained(WHY, FORMULA)),
        h(
          "span",
          { class: "filters" },
          choice("Objective", OBJECTIVES, "dpo", (name) => this.change("objective", name)),
          this.numberInput("Beta", "beta", "0.0001"),
          this.coefficients.map(({ box }) => box),
          h("label", { class: "inline" }, normalize, "Length-normalize"),
        ),
      ),
      this.sentence,
      this.rest,
      this.remedies,
      this.worst,
      h(
        "p",
        { class: "small quiet" },
        "First order: one small step of plain gradient descent on each pair alone, through the output head. RMSprop " +
          "and Adam step otherwise, pairs act on each other, and the layers below the head move too.",
      ),
      this.earlier,
    );
    this.host.hidden = false;
    await this.load();
    await this.loadEarlier();
  }

  numberInput(label, name, min, max = null) {
    const input = h("input", {
      type: "number",
      step: "any",
      min,
      max,
      value: this.settings[name],
      onchange: () => input.reportValidity() && this.change(name, Number(input.value)),
    });
    return h("label", { class: "inline" }, label, input);
  }

  async change(name, value) {
    this.settings[name] = value;
    await this.load();
  }

  async load() {
    const { objective, beta, length_normalize } = this.settings;
    const read = OWN_SETTINGS[objective] ?? [];
    const own = this.coefficients
      .filter(({ name }) => read.includes(name))
      .map(({ name }) => [name, this.settings[name]]);
    for (const { name, box } of this.coefficients) box.hidden = !read.includes(name);
    const settings = { objective, beta, length_normalize, ...Object.fromEntries(own) };
    const query = new URLSearchParams(/** @type {any} */ (settings));
    try {
      const forecast = await this.newest(api(`/runs/${this.run.id}/forecast?${query}`));
      if (forecast) this.draw(forecast);
    } catch (problem) {
      this.sentence.replaceChildren(problemNotice(problem));
    }
  }

  draw(forecast) {
    const { message, pairs, remedies, worst } = forecast;
    this.sentence.textContent = message ?? forecastSentence(forecast);
    this.rest.textContent = message ? "" : restSentence(forecast);
    this.remedies.replaceChildren(
      ...(forecast.falling ? remedies.map((remedy) => this.remedyView(forecast, remedy)) : []),
    );
    this.worst.hidden = !worst.length;
    this.worst.replaceChildren(
      h("summary", { class: "small" }, `The ${count(worst.length)} of ${count(pairs)} pairs that would fall most`),
      this.worstTable(worst),
    );
  }

  /** A slider over the points of the curve: at each stop the number is exact. */
  remedyView(forecast, remedy) {
    const { curve, recommended, prevents_all } = remedy;
    const said = h("output", {});
    const train = h("a", { class: "button primary" }, "Train with this");
    const marks = [recommended, prevents_all].filter((value) => value !== null).map((value) => stopOf(curve, value));
    const weakest = isDownwards(curve) ? "largest" : "smallest";
    const id = `stops-${remedy.remedy}`;
    const slider = h("input", {
      type: "range",
      min: "0",
      max: curve.length - 1,
      step: "1",
      value: marks[0] ?? 0,
      list: id,
      "aria-label": remedy.remedy,
      oninput: () => show(),
    });
    const show = () => {
      const stop = Number(slider.value);
      said.textContent = remedySentence(remedy, stop, forecast.pairs);
      slider.setAttribute("aria-valuetext", said.textContent);
      train.href = trainAddress(this.run, forecast, remedy, curve[stop].value);
    };
    const jump = (text, value, title) => {
      const onclick = () => {
        slider.value = String(stopOf(curve, value));
        show();
      };
      return value === null ? null : h("button", { type: "button", onclick, title }, `${text}: ${coefficient(value)}`);
    };
    show();
    return h(
      "div",
      { class: "remedy", dataset: { remedy: remedy.remedy } },
      h("h3", {}, TITLES[remedy.remedy], " ", h("code", {}, remedy.remedy)),
      slider,
      h(
        "datalist",
        { id },
        marks.map((stop) => h("option", { value: stop })),
      ),
      said,
      h(
        "div",
        { class: "actions" },
        jump("Recommended", recommended, `The ${weakest} value at which at most 5 % of the pairs fall`),
        jump("None falls", prevents_all, `The ${weakest} value at which no pair falls`),
        train,
      ),
    );
  }

  worstTable(worst) {
    const line = (text, sign, name) =>
      h("div", { class: "clip one" }, h("span", { class: `${name}-ink` }, `${sign} `), clip(text, 160));
    const row = (item) =>
      h(
        "tr",
        {},
        h(
          "td",
          { class: "num" },
          h("a", { href: `/datasets/${this.run.dataset_id}?pair=${item.pair}` }, count(item.pair)),
        ),
        h("td", { class: "num" }, number(item.required_ratio)),
        h("td", { class: "num narrow-hide" }, number(item.head_cosine)),
        h(
          "td",
          {},
          h(
            "div",
            { class: "small responses" },
            line(item.preferred, "y+", "preferred"),
            line(item.dispreferred, "y−", "dispreferred"),
          ),
        ),
      );
    const head = (text, kind = "num", why = null) =>
      h("th", { class: kind }, text, why && " ", why && explained(why, FORMULA));
    return dataTable(
      [
        head("Pair"),
        head("Required ratio", "num", "How many times harder y+ must be pushed up than y− down for it not to fall."),
        head("Head cosine", "num narrow-hide"),
        head("Responses", ""),
      ],
      worst.map(row),
    );
  }

  /** How the forecast did on runs that were trained on this dataset. */
  async loadEarlier() {
    const { items } = await api(`/runs/${this.run.id}/displacements`);
    const lines = [];
    for (const { run_id, name } of items.slice(0, CHECKED_RUNS)) {
      const check = await api(`/runs/${run_id}/forecast`);
      // Another score run foretells a run of another model, or one that cut the texts otherwise.
      if (!check.pairs || check.score_run !== this.run.id) continue;
      lines.push(
        h("a", { href: `/runs/${run_id}#forecast-title` }, `Run ${run_id}, ${clip(name, 60)}`),
        ` (${check.objective}): ${hitSentence(check)} `,
      );
    }
    if (lines.length) this.earlier.replaceChildren("How it did on earlier runs: ", ...lines);
  }
}
