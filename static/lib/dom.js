// Building the page. Text goes in as text nodes, never as HTML.

/** h("a", {href, class, onclick, dataset}, child, [children], "text") */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

export function toast(text) {
  const box = h("div", { class: "toast", role: "status" }, text);
  document.body.append(box);
  setTimeout(() => box.remove(), 4500);
}

/** Ask before something that cannot be undone; resolves to true or false. */
export function confirmed({ title, text, action }) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-label": title },
      h(
        "form",
        { method: "dialog" },
        h("h2", {}, title),
        h("p", { class: "quiet" }, text),
        h(
          "div",
          { class: "actions" },
          h("button", { class: "primary danger", value: "yes" }, action),
          h("button", { value: "no", autofocus: true }, "Keep it"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function saveFile(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** "a,b" quoted as CSV wants it. Numbers that are no numbers become empty cells. */
export function toCsv(columns) {
  const names = Object.keys(columns);
  const length = Math.max(0, ...names.map((name) => columns[name].length));
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    // A leading sign of a formula would be run by spreadsheets.
    const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = Array.from({ length }, (_, i) => names.map((name) => cell(columns[name][i])).join(","));
  return [names.join(","), ...rows].join("\n") + "\n";
}

export function problemNotice(problem) {
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    h("strong", {}, problem.title ?? "Something went wrong"),
    h("p", {}, problem.message),
    problem.errors?.length
      ? h(
          "ul",
          {},
          problem.errors.map((item) =>
            h("li", {}, [item.row && `Row ${item.row}`, item.field, item.message].filter(Boolean).join(" · ")),
          ),
        )
      : null,
  );
}
