// A chart on the page: its heading and explanation, the plot, and its downloads.
//
// `figure(colors)` is asked again whenever numbers or the theme changed. What was only appended is
// appended to the plot too; anything else is drawn anew. Nothing is drawn while out of sight.

import { h, saveFile, toCsv } from "./dom.js";
import { palette } from "./figures/frame.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize", showTips: false };
const PICTURE = { width: 1100, height: 560, scale: 2 };
const charts = new Set();

export class Chart {
  /** title; why: one sentence; formula; name: for files; figure(colors) → {data, layout};
   *  csv() → columns; describe() → words for those who do not see it; note() → a line below. */
  constructor(host, options) {
    this.options = options;
    this.host = host;
    this.plot = h("div", { class: "plot", role: "img", "aria-label": options.title });
    this.note = h("div", { class: "note" });
    this.nothing = h("div", { class: "nothing" }, options.empty ?? "Nothing yet.");
    host.replaceChildren(heading(options, this), this.plot, this.note);
    this.isVisible = false;
    this.isDirty = false;
    this.drawn = null;
    this.frame = 0;
    charts.add(this);
    new IntersectionObserver(([entry]) => {
      this.isVisible = entry.isIntersecting;
      if (this.isVisible && this.isDirty) this.schedule();
    }, { rootMargin: "200px" }).observe(host);
  }

  /** Numbers were added at the end of every line. */
  append() {
    this.isDirty = true;
    this.schedule();
  }

  /** Anything may have changed. */
  redraw() {
    this.drawn = null;
    this.append();
  }

  schedule() {
    if (this.frame || !this.isVisible) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.isDirty = false;
      this.draw();
    });
  }

  draw() {
    const figure = this.options.figure(palette());
    if (this.options.height) this.plot.style.height = `${this.options.height()}px`;
    this.plot.setAttribute("aria-label", `${this.options.title}. ${this.options.describe?.() ?? ""}`);
    this.note.textContent = this.options.note?.() ?? "";
    const isEmpty = !figure.data.some((trace) => (trace.x ?? trace.link?.value ?? []).length);
    if (isEmpty) {
      if (this.plot.data) Plotly.purge(this.plot);
      this.plot.replaceChildren(this.nothing);
      this.drawn = null;
      return;
    }
    this.nothing.remove();
    if (this.drawn && extend(this.plot, this.drawn, figure)) {
      this.drawn = shape(figure);
      return;
    }
    Plotly.react(this.plot, figure.data, figure.layout, CONFIG);
    this.drawn = shape(figure);
  }

  async download(format) {
    if (format === "csv") {
      saveFile(`${this.options.name}.csv`, toCsv(this.options.csv()), "text/csv");
      return;
    }
    const figure = (this.options.picture ?? this.options.figure)(palette());
    figure.layout = {
      ...figure.layout,
      paper_bgcolor: palette().surface,
      title: { text: this.options.title, x: 0.01, font: { size: 15 } },
      margin: { ...figure.layout.margin, t: 64 },
    };
    const options = { ...PICTURE, format, filename: this.options.name };
    if (format === "svg") options.scale = 1;
    await Plotly.downloadImage(figure, options);
  }
}

/** What of a drawn figure tells whether the next one only appends to it. */
function shape(figure) {
  return figure.data.map((trace) => ({
    mode: trace.mode, name: trace.name, length: trace.x?.length ?? 0,
    firstX: trace.x?.[0], lastX: trace.x?.at(-1), lastY: trace.y?.at(-1),
  }));
}

/** Append the new points of lines; false where that would not give the same picture. */
function extend(plot, before, figure) {
  const after = figure.data;
  const fits = before.length === after.length && before.every((old, i) => {
    const trace = after[i];
    return trace.type === "scatter" && !Array.isArray(trace.marker?.color) && old.mode === trace.mode &&
      old.name === trace.name && trace.x.length >= old.length && old.length > 0 && trace.x[0] === old.firstX &&
      trace.x[old.length - 1] === old.lastX && trace.y[old.length - 1] === old.lastY;
  });
  if (!fits) return false;
  const grown = after.map((_, i) => i).filter((i) => after[i].x.length > before[i].length);
  if (grown.length) {
    const tail = (name) => grown.map((i) => after[i][name].slice(before[i].length));
    Plotly.extendTraces(plot, { x: tail("x"), y: tail("y") }, grown);
  }
  return true;
}

let tips = 0;

/** An explanation that opens on hover and on focus. */
export function explained(why, formula) {
  const id = `tip-${(tips += 1)}`;
  return h("span", { class: "tip" },
    h("button", { type: "button", class: "why", "aria-describedby": id, "aria-label": "What is this?" }, "?"),
    h("span", { role: "tooltip", id }, why, formula ? h("code", {}, formula) : null));
}

export function downloads(target, formats = ["png", "svg", "csv"]) {
  return h("span", { class: "downloads" }, formats.map((format) =>
    h("button", { type: "button", class: "icon", title: `Download as ${format.toUpperCase()}`, "aria-label": `Download as ${format.toUpperCase()}`, onclick: () => target.download(format) }, format.toUpperCase())));
}

function heading(options, chart) {
  return h("div", { class: "card-head" },
    h("span", { class: "chart-title" }, h("h3", {}, options.title), explained(options.why, options.formula)),
    options.controls ?? null,
    downloads(chart));
}

/** Buttons of which one is pressed. choices: [[value, label]]. group.choose(value) presses one. */
export function segmented(label, choices, value, onchange) {
  const group = h("div", { class: "segmented", role: "group", "aria-label": label });
  group.choose = (chosen) => [...group.children].forEach((button, i) => button.setAttribute("aria-pressed", String(choices[i][0] === chosen)));
  group.append(...choices.map(([choice, text]) => h("button", {
    type: "button", "aria-pressed": String(choice === value),
    onclick: () => { group.choose(choice); onchange(choice); },
  }, text)));
  return group;
}

document.addEventListener("themechange", () => {
  for (const chart of charts) chart.redraw();
});
