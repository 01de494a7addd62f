// The review page's filter form: the reviewer's name, and filter, sort and sources, which the address keeps.

const NAME_KEY = "chesboard-reviewer";

/** Values of the "only" choice → the filter's parameter that is true. */
const FLAGS = ["flagged", "displaced", "disputed", "edited"];
/** Controls that leave pairs out. */
const CONDITIONS = ["verdict", "only", "issue"];
const SOURCES = ["score_run", "displacement_run"];
const IN_ADDRESS = ["verdict", "only", "issue", "sort", ...SOURCES];

export class Filters {
  /** @param {any} form @param {() => unknown} onname called when the name changed and the filter depends on it */
  constructor(form, onname) {
    this.form = form;
    this.control("reviewer").value = storedName();
    this.control("reviewer").addEventListener("change", () => {
      storeName(this.reviewer);
      if (this.value("only") === "not_by") onname();
    });
    // Enter in the name's box returns the focus to the pairs instead of submitting the form.
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    });
  }

  /** @param {string} name @returns {any} undefined where the page has no such control */
  control(name) {
    return this.form.elements[name];
  }

  /** @param {string} name @returns {string} */
  value(name) {
    return this.control(name)?.value ?? "";
  }

  get reviewer() {
    return this.value("reviewer").trim();
  }

  get isAll() {
    return !CONDITIONS.some((name) => this.value(name));
  }

  /** Show all pairs. */
  clear() {
    for (const name of CONDITIONS) if (this.control(name)) this.control(name).value = "";
  }

  /** Set the controls to what the address says. @param {URLSearchParams} query */
  readAddress(query) {
    for (const name of IN_ADDRESS) {
      const [control, value] = [this.control(name), query.get(name)];
      const isOption = control && [...control.options].some((option) => option.value === value);
      if (isOption) control.value = value;
    }
  }

  /** The parameters of the address, defaults left out. */
  addressQuery() {
    const query = new URLSearchParams();
    for (const name of IN_ADDRESS) {
      const control = this.control(name);
      if (control && control.value !== control.options[0].value) query.set(name, control.value);
    }
    return query;
  }

  /** The filter as the API wants it in a query string. */
  query() {
    const query = new URLSearchParams();
    if (this.value("verdict")) query.set("verdict", this.value("verdict"));
    if (this.value("issue")) query.set("issue", this.value("issue"));
    const only = this.value("only");
    if (FLAGS.includes(only)) query.set(only, "true");
    // Without a name there is nothing to exclude.
    if (only === "not_by" && this.reviewer) query.set("not_by", this.reviewer);
    for (const name of SOURCES) if (this.control(name)) query.set(name, this.value(name));
    return query;
  }

  /** The same as the API wants it in a body. @returns {Record<string, any>} */
  body() {
    /** @type {Record<string, any>} */
    const body = Object.fromEntries(this.query());
    for (const name of ["verdict", "issue"]) if (body[name]) body[name] = [body[name]];
    for (const name of FLAGS) if (body[name]) body[name] = true;
    for (const name of SOURCES) if (body[name]) body[name] = Number(body[name]);
    return body;
  }

  /** The filter in words. */
  words() {
    const parts = CONDITIONS.filter((name) => this.value(name)).map((name) =>
      this.control(name).selectedOptions[0].textContent.replace(/\s+/g, " ").trim(),
    );
    return parts.length ? parts.join(", ") : "the whole dataset";
  }
}

function storedName() {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}

function storeName(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // Storage is disabled: the name holds for this page only.
  }
}
