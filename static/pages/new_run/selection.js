// Which pairs a run trains on or looks at: the controls of its rules, and what they come to, counted as they change.

import { api } from "../../lib/api.js";
import { $, $$, h } from "../../lib/dom.js";
import { clip, count, percent } from "../../lib/format.js";
import { FieldError, READ, wholeNumber } from "./form-values.js";

const WAIT_MS = 250;
const SAMPLE_LENGTH = 160;
const RULES = "rules"; // stands for the form's own rules, until `arranged`
const part = (row, name) => $(`[data-part="${name}"]`, row);

/** Readers of the controls: fieldset → value, undefined where nothing is chosen. */
export const READ_SELECTION = {
  choices: (fieldset) => {
    const ticked = $$("input:checked", fieldset).map((box) => box.value);
    return ticked.length ? ticked : undefined;
  },
  measures: (fieldset) => {
    const rules = $$("[data-rule-row]", fieldset).map((row, i) => at([i, "number"], () => measureRule(row)));
    return rules.length ? rules : undefined;
  },
  subset: (fieldset) => {
    const way = part(fieldset, "way");
    if (!way.value) return undefined;
    const seed = at(["seed"], () => wholeNumber(part(fieldset, "seed").value.trim()));
    if (way.value === RULES) return { same_size_as: RULES, seed };
    if (way.value === "other") return { same_size_as: JSON.parse(way.selectedOptions[0].dataset.like), seed };
    const text = part(fieldset, "number").value.trim();
    return at(["number"], () => ({ [way.value]: way.value === "count" ? wholeNumber(text) : share(text), seed }));
  },
};

/** Attribute an error to a part of the field. */
function at(rest, read) {
  try {
    return read();
  } catch (error) {
    error.rest ??= rest;
    throw error;
  }
}

function measureRule(row) {
  const by = part(row, "by").value;
  const text = part(row, "number").value.trim();
  return {
    score_run: Number(part(row, "score_run").value),
    measure: part(row, "measure").value,
    keep: part(row, "keep").value,
    [by]: by === "fraction" ? share(text) : READ.number(text),
  };
}

/** "5" → 0.05 */
function share(text) {
  const value = READ.number(text);
  if (value <= 0 || value > 100) throw new FieldError("A share must be more than 0 % and at most 100 %.");
  return value / 100;
}

/** The selection as the configuration has it. Rules of a random control determine its size; they select no pairs. */
export function arrangeSelection(selection) {
  const { random, limit, ...rules } = selection ?? {};
  if (random?.same_size_as !== RULES) return selection ?? {};
  return { random: sameSize(rules, random.seed), ...(limit === undefined ? {} : { limit }) };
}

/** The selection of a random control beside a run of this selection. */
export function controlOf(selection) {
  const { random, limit, ...rules } = selection ?? {};
  if (random) throw new FieldError("This run's pairs are drawn at random already: it needs no random control.");
  return { random: sameSize(rules, 0), ...(limit === undefined ? {} : { limit }) };
}

function sameSize(rules, seed) {
  if (!Object.values(rules).some((rule) => rule !== false)) {
    throw new FieldError("Set rules above: the random control has as many pairs as they select.");
  }
  return { same_size_as: rules, seed };
}

/** Errors of a random control's rules belong to the fields of these rules. @param {string} field */
export const fieldOfRule = (field) => field.replace("random.same_size_as.", "");

/** The control that an error is about: "measures.1.fraction" is the number of the second rule. */
export function partOf(fieldset, rest) {
  const row = fieldset.dataset.type === "measures" ? $$("[data-rule-row]", fieldset)[Number(rest[0])] : fieldset;
  const name = ["fraction", "threshold", "count"].includes(rest.at(-1)) ? "number" : rest.at(-1);
  return (row && name && part(row, name)) || $("input, select, [data-add]", row ?? fieldset);
}

/** Show only the inputs that the chosen way of sampling uses. */
export function startSubset(fieldset) {
  const show = () => {
    const way = part(fieldset, "way").value;
    for (const label of $$("[data-with]", fieldset)) label.hidden = !label.dataset.with.split(" ").includes(way);
    $("[data-number-label]", fieldset).textContent = way === "fraction" ? "Share in %" : "Number of pairs";
  };
  fieldset.addEventListener("change", show);
  show();
}

/** Counts the selected pairs whenever the selection changes. */
export class SelectionPreview {
  constructor({ host, form, dataset, read, onproblem }) {
    this.host = host;
    this.read = read;
    this.path = `/datasets/${dataset}/selection`;
    this.onproblem = onproblem;
    this.timer = 0;
    this.asked = null;
    const isMine = (event) => event.target.closest('[data-field^="selection."]');
    for (const kind of ["input", "change"])
      form.addEventListener(kind, (event) => {
        if (isMine(event)) this.soon();
      });
    form.addEventListener("click", (event) => {
      if (isMine(event) && event.target.closest("[data-add], [data-remove]")) this.soon();
    });
    this.show();
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), WAIT_MS);
  }

  async show() {
    this.asked?.abort();
    const selection = this.read();
    if (selection === null) return this.say("–", "Something above is not right yet.");
    this.asked = new AbortController();
    this.host.setAttribute("aria-busy", "true");
    try {
      this.draw(await api(this.path, { method: "POST", body: selection, signal: this.asked.signal }));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      const isAtField = this.onproblem(problem);
      this.say("–", isAtField ? "Something above is not right yet." : problem.message);
    }
    this.host.removeAttribute("aria-busy");
  }

  say(number, words) {
    $("[data-selection-count]", this.host).textContent = number;
    $("[data-selection-words]", this.host).textContent = words;
    $("[data-selection-samples]", this.host).hidden = true;
    this.host.removeAttribute("aria-busy");
  }

  draw({ total, count: left, left_out: out, sample, sample_left_out: sampleOut }) {
    const words =
      out === 0
        ? `All pairs are ${this.host.dataset.used}.`
        : left === 0
          ? "No pair is left."
          : `${percent(left / total, 1)}; ${count(out)} left out.`;
    this.say(`${count(left)} of ${count(total)} pairs.`, words);
    this.host.classList.toggle("nothing", left === 0);
    const list = (host, pairs, rest) =>
      host.replaceChildren(
        ...pairs.map(brief),
        ...(rest > pairs.length ? [h("li", { class: "quiet" }, `and ${count(rest - pairs.length)} more`)] : []),
        ...(rest ? [] : [h("li", { class: "quiet" }, "none")]),
      );
    list($("[data-sample-kept]", this.host), sample, left);
    list($("[data-sample-out]", this.host), sampleOut, out);
    $("[data-selection-samples]", this.host).hidden = false;
  }
}

function brief({ pair, prompt, preferred, dispreferred }) {
  const asked = typeof prompt === "string" ? prompt : (prompt.at(-1)?.content ?? "");
  const line = (text, sign, name) =>
    h("div", { class: "clip one" }, h("span", { class: `${name}-ink` }, `${sign} `), clip(text, SAMPLE_LENGTH));
  return h(
    "li",
    {},
    h("div", { class: "clip one" }, h("span", { class: "quiet" }, `${pair} `), clip(asked, SAMPLE_LENGTH)),
    line(preferred, "y+", "preferred"),
    line(dispreferred, "y−", "dispreferred"),
  );
}
