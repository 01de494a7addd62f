// Building elements (text goes in as text nodes, never as HTML), finding them, dialogs, notices and file downloads.

/**
 * h("a", {href, class, onclick, dataset}, child, [children], "text")
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any> | null} attributes "on…" adds a listener, "style" takes an object of properties; null,
 *   undefined and false are left out
 * @param {any[]} children elements, texts and nested lists of them; null and undefined are left out
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    // Not as an attribute: the Content Security Policy blocks those.
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Number.POSITIVE_INFINITY).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Names in backticks stand out: "by `rank`". @param {string} sentence */
export const inCode = (sentence) => sentence.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

/**
 * The first matching element. Untyped: what a selector finds is up to the template.
 *
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any}
 */
export const $ = (selector, root = document) => root.querySelector(selector);

/**
 * All matching elements.
 *
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any[]}
 */
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/**
 * A table that scrolls by itself where the page is narrower.
 *
 * @param {any[] | null} head the cells of its first row; null: none
 * @param {any} rows
 * @param {{wrap?: string} & Record<string, any>} attributes of the table; wrap: a class of what scrolls
 */
export function dataTable(head, rows, { wrap = "", ...attributes } = {}) {
  return h(
    "div",
    { class: `table-wrap ${wrap}`.trim() },
    h("table", attributes, head && h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
  );
}

/** Show a message for a few seconds. @param {string} text */
export function toast(text) {
  const box = h("div", { class: "toast", role: "status" }, text);
  document.body.append(box);
  setTimeout(() => box.remove(), 4500);
}

/**
 * Ask before something that cannot be undone.
 *
 * @param {{title: string, text: string, action: string}} question action: the label of the confirming button
 * @returns {Promise<boolean>}
 */
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

/**
 * Offer a file for download.
 *
 * @param {string} name
 * @param {BlobPart} content
 * @param {string} type its media type
 */
export function saveFile(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * A problem as a notice with the list of its errors.
 *
 * @param {{title?: string, message: string, errors?: import("./api.js").FieldProblem[]}} problem
 */
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
