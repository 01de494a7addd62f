// Controls that several pages share: explanations, download buttons, choices, query parameters, throttling.

import { h } from "./dom.js";

let tips = 0;

/**
 * A "?" button whose tooltip opens on hover and on focus.
 *
 * @param {string} why a sentence
 * @param {string} [formula]
 */
export function explained(why, formula) {
  tips += 1;
  const id = `tip-${tips}`;
  return h(
    "span",
    { class: "tip" },
    h("button", { type: "button", class: "why", "aria-describedby": id, "aria-label": "What is this?" }, "?"),
    h("span", { role: "tooltip", id }, why, formula ? h("code", {}, formula) : null),
  );
}

/**
 * @param {{download: (format: string) => unknown}} target
 * @param {string[]} formats
 */
export function downloads(target, formats = ["png", "svg", "csv"]) {
  return h(
    "span",
    { class: "downloads" },
    formats.map((format) => {
      const label = `Download as ${format.toUpperCase()}`;
      const onclick = () => target.download(format);
      return h(
        "button",
        { type: "button", class: "icon", title: label, "aria-label": label, onclick },
        format.toUpperCase(),
      );
    }),
  );
}

/**
 * A group of buttons of which one is pressed; `choose(value)` presses one without calling onchange.
 *
 * @param {string} label
 * @param {[string, string][]} choices value and text of each button
 * @param {string} value the one that is pressed at first
 * @param {(value: string) => void} onchange
 */
export function segmented(label, choices, value, onchange) {
  const group = h("div", { class: "segmented", role: "group", "aria-label": label });
  /** @param {string} chosen */
  const choose = (chosen) => {
    [...group.children].forEach((button, i) => {
      button.setAttribute("aria-pressed", String(choices[i][0] === chosen));
    });
  };
  group.append(
    ...choices.map(([choice, text]) => {
      const onclick = () => {
        choose(choice);
        onchange(choice);
      };
      return h("button", { type: "button", "aria-pressed": String(choice === value), onclick }, text);
    }),
  );
  return Object.assign(group, { choose });
}

/**
 * A drop-down list.
 *
 * @param {string} label
 * @param {[string, string][]} choices value and text of each option
 * @param {string} value the one that is selected at first
 * @param {(value: string) => void} onchange
 */
export function choice(label, choices, value, onchange) {
  const select = h(
    "select",
    { "aria-label": label, onchange: () => onchange(select.value) },
    choices.map(([name, text]) => h("option", { value: name, selected: name === value }, text)),
  );
  return h("span", { class: "inline" }, select);
}

/**
 * Write a view's state into the page's query string, so that its address can be shared.
 *
 * @param {Record<string, unknown>} parameters null or undefined removes the parameter
 */
export function setQueryParameters(parameters) {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined) address.searchParams.delete(name);
    else address.searchParams.set(name, String(value));
  }
  history.replaceState(null, "", address);
}

/**
 * Call `action` once, `delay` milliseconds after the first of any number of requests.
 *
 * @param {() => void} action
 * @param {number} delay
 */
export function throttle(action, delay) {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    setTimeout(() => {
      isScheduled = false;
      action();
    }, delay);
  };
}
