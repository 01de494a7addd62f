// A chart on the page: its heading and explanation, the plot, and its downloads.
//
// `figure(colors)` is called again whenever numbers or the theme changed. Points that were only appended are appended
// to the plot too; anything else is drawn anew. Nothing is drawn while out of sight, and at most once per animation
// frame: a tab in the background has no frames, so it draws once when it is visible again.

import { downloads, explained } from "../lib/controls.js";
import { toCsv } from "../lib/csv.js";
import { rangeOf } from "../lib/detail.js";
import { h, saveFile } from "../lib/dom.js";
import { palette } from "./palette.js";
import { savePicture } from "./picture.js";
import { extend, shapeOf } from "./plot-append.js";

/** @import { Colors, Columns, Figure } from "../lib/types.js" */

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize", showTips: false };
const PICTURE = { width: 1100, height: 560 };
const ZOOM_MS = 250;
const charts = new Set();

/**
 * @typedef {{
 *   title: string,
 *   name: string,
 *   why: string,
 *   formula?: string,
 *   empty?: string,
 *   controls?: Node,
 *   figure: (colors: Colors, width?: number) => Figure,
 *   csv: () => Columns,
 *   describe?: () => string,
 *   note?: () => string,
 *   height?: () => number,
 *   onzoom?: (range: [number, number]) => unknown,
 *   onselect?: (points: any[] | null) => unknown,
 * }} ChartOptions name: of downloaded files; why: one sentence; empty: shown while there are no points; controls:
 *   beside the heading; figure: also given the width of the plot in pixels; describe: the accessible description;
 *   note: a line below; height: in pixels; onzoom: the range on the horizontal axis; onselect: the points inside a
 *   drawn box or lasso, null when it is cleared
 */

export class Chart {
  /** @param {HTMLElement} host @param {ChartOptions} options */
  constructor(host, options) {
    this.options = options;
    this.host = host;
    /** Plotly adds `data` and `on` to it. @type {any} */
    this.plot = h("div", { class: "plot", role: "img", "aria-label": options.title });
    this.note = h("div", { class: "note" });
    this.nothing = h("div", { class: "nothing" }, options.empty ?? "Nothing yet.");
    host.replaceChildren(heading(options, this), this.plot, this.note);
    this.isVisible = false;
    this.isDirty = false;
    /** The shape of the figure that is drawn; null: draw anew. @type {import("./plot-append.js").Shape | null} */
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

  /** @param {string} title */
  retitle(title) {
    this.options.title = title;
    this.host.querySelector("h3").textContent = title;
  }

  /** Points were added at the end of the lines. */
  append() {
    this.isDirty = true;
    this.schedule();
  }

  /** Any number may have changed. */
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
    const figure = this.options.figure(palette(), this.plot.clientWidth);
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
    const shape = shapeOf(figure); // before Plotly writes computed ranges into it
    if (!this.drawn || !extend(this.plot, this.drawn, figure)) {
      const isNew = !this.plot.data;
      Plotly.react(this.plot, figure.data, figure.layout, CONFIG);
      if (isNew) this.listen();
    }
    this.drawn = shape;
  }

  /** Plotly drops the listeners of a plot when it is purged. */
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

  /** @param {string} format "png", "svg" or "csv" */
  async download(format) {
    if (format === "csv") {
      saveFile(`${this.options.name}.csv`, toCsv(this.options.csv()), "text/csv");
      return;
    }
    const figure = this.options.figure(palette(), PICTURE.width);
    figure.layout = {
      ...figure.layout,
      paper_bgcolor: palette().surface,
      title: { text: this.options.title, x: 0.01, font: { size: 15 } },
      margin: { ...figure.layout.margin, t: 64 },
    };
    await savePicture(figure, { ...PICTURE, name: this.options.name, format });
  }
}

/** @param {ChartOptions} options @param {Chart} chart */
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
