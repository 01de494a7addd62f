// A chart on the page: its heading and explanation, the plot, and its downloads.
//
// `figure(colors)` is asked again whenever numbers or the theme changed. What was only appended is
// appended to the plot too; anything else is drawn anew. Nothing is drawn while out of sight, and
// at most once a frame: a tab in the background has no frames, so it draws once when it is back.

import { palette } from "../figures/frame.js";
import { downloads, explained } from "../lib/controls.js";
import { h, saveFile, toCsv } from "../lib/dom.js";
import { savePicture } from "./picture.js";
import { extend, shapeOf } from "./plot-append.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize", showTips: false };
const PICTURE = { width: 1100, height: 560 };
const ZOOM_MS = 250;
const charts = new Set();

export class Chart {
  /** title; why: one sentence; formula; name: for files; figure(colors) → {data, layout};
   *  csv() → columns; describe() → words for those who do not see it; note() → a line below;
   *  onzoom([from, to]): someone looks closer; onselect(points or null): someone drew around them;
   *  controls: elements beside the heading; height() → pixels; picture(colors): for downloads. */
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
    new IntersectionObserver(
      ([entry]) => {
        this.isVisible = entry.isIntersecting;
        if (this.isVisible && this.isDirty) this.schedule();
      },
      { rootMargin: "200px" },
    ).observe(host);
  }

  /** What it shows is another thing now. */
  retitle(title) {
    this.options.title = title;
    this.host.querySelector("h3").textContent = title;
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
    const shape = shapeOf(figure); // before Plotly writes the ranges that it found into it
    if (!this.drawn || !extend(this.plot, this.drawn, figure)) {
      const isNew = !this.plot.data;
      Plotly.react(this.plot, figure.data, figure.layout, CONFIG);
      if (isNew) this.listen();
    }
    this.drawn = shape;
  }

  /** Plotly forgets who listens when a plot is purged. */
  listen() {
    const { onzoom, onselect } = this.options;
    if (onzoom) {
      this.plot.on("plotly_relayout", (change) => {
        const range = rangeOf(change);
        clearTimeout(this.zooming);
        if (range) this.zooming = setTimeout(() => onzoom(range), ZOOM_MS);
      });
    }
    if (onselect) {
      this.plot.on("plotly_selected", (event) => onselect(event?.points ?? null));
      this.plot.on("plotly_deselect", () => onselect(null));
    }
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
    await savePicture(figure, { ...PICTURE, name: this.options.name, format });
  }
}

/** [from, to] on the horizontal axis, where a change of the layout narrowed it. */
export function rangeOf(change) {
  const both = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  return both.every(Number.isFinite) ? both : null;
}

function heading(options, chart) {
  return h(
    "div",
    { class: "card-head" },
    h("span", { class: "chart-title" }, h("h3", {}, options.title), explained(options.why, options.formula)),
    options.controls ?? null,
    downloads(chart),
  );
}

document.addEventListener("themechange", () => {
  for (const chart of charts) chart.redraw();
});
