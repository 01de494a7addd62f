// Small controls that several pages share: explanations, downloads, choices.

import { h } from "./dom.js";

let tips = 0;

/** An explanation that opens on hover and on focus: a sentence, and the formula where there is one. */
export function explained(why, formula) {
  const id = `tip-${(tips += 1)}`;
  return h(
    "span",
    { class: "tip" },
    h("button", { type: "button", class: "why", "aria-describedby": id, "aria-label": "What is this?" }, "?"),
    h("span", { role: "tooltip", id }, why, formula ? h("code", {}, formula) : null),
  );
}

/** target.download(format) saves it. */
export function downloads(target, formats = ["png", "svg", "csv"]) {
  return h(
    "span",
    { class: "downloads" },
    formats.map((format) => {
      const label = `Download as ${format.toUpperCase()}`;
      return h(
        "button",
        {
          type: "button",
          class: "icon",
          title: label,
          "aria-label": label,
          onclick: () => target.download(format),
        },
        format.toUpperCase(),
      );
    }),
  );
}

/** Buttons of which one is pressed. choices: [[value, label]]. group.choose(value) presses one. */
export function segmented(label, choices, value, onchange) {
  const group = h("div", { class: "segmented", role: "group", "aria-label": label });
  group.choose = (chosen) =>
    [...group.children].forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i][0] === chosen)));
  group.append(
    ...choices.map(([choice, text]) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(choice === value),
          onclick: () => {
            group.choose(choice);
            onchange(choice);
          },
        },
        text,
      ),
    ),
  );
  return group;
}

/** A list to choose from. choices: [[value, label]]; value and label are texts. */
export function choice(label, choices, value, onchange) {
  const select = h(
    "select",
    { "aria-label": label, onchange: () => onchange(select.value) },
    choices.map(([name, text]) => h("option", { value: name, selected: name === value }, text)),
  );
  return h("span", { class: "inline" }, select);
}

/** Keep what someone chose in the address, so that it can be shared; null takes it out. */
export function remember(parameters) {
  const address = new URL(location);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined) address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  }
  history.replaceState(null, "", address);
}

/** Calls at most once in so many milliseconds, and once after the last request. */
export function throttle(action, every) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      action();
    }, every);
  };
}
