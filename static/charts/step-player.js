// A slider over the recorded steps, with a button that animates them.

import { h } from "../lib/dom.js";

const PLAY_MS = 7000;
const TICK_MS = 60;

export class StepPlayer {
  /** @param {(index: number) => unknown} onmove called when another step is selected */
  constructor(onmove) {
    this.onmove = onmove;
    this.steps = [];
    this.index = -1;
    this.isFollowing = true;
    this.timer = 0;
    this.slider = h("input", {
      type: "range",
      min: "0",
      max: "0",
      value: "0",
      "aria-label": "Step of the ledger",
      oninput: () => {
        this.stop();
        this.goTo(Number(this.slider.value));
      },
    });
    this.button = h(
      "button",
      {
        type: "button",
        onclick: () => (this.timer ? this.stop() : this.play()),
      },
      "▶ Play",
    );
    this.output = h("output", {});
    this.element = h("div", { class: "stepper" }, this.button, this.slider, this.output);
  }

  get isPlaying() {
    return this.timer !== 0;
  }

  /** Start over at the last step, or at a given one. @param {number[]} steps @param {number | null} step */
  reset(steps, step = null) {
    this.stop();
    const index = step === null ? -1 : steps.indexOf(step);
    this.isFollowing = index < 0 || index === steps.length - 1;
    this.index = this.isFollowing ? steps.length - 1 : index;
    this.setSteps(steps);
  }

  /** Update the steps; a slider at the last one follows them. @param {number[]} steps */
  setSteps(steps) {
    const shown = this.steps[this.index];
    this.steps = steps;
    if (this.isFollowing) this.index = steps.length - 1;
    else if (steps[this.index] !== shown && steps.includes(shown)) this.index = steps.indexOf(shown);
    this.index = Math.min(this.index, steps.length - 1);
    this.slider.max = String(Math.max(0, steps.length - 1));
    this.draw();
  }

  goTo(index) {
    this.index = index;
    this.isFollowing = index === this.steps.length - 1;
    this.draw();
    this.onmove(index);
  }

  draw() {
    const step = this.steps[this.index];
    this.slider.value = String(Math.max(0, this.index));
    this.slider.setAttribute("aria-valuetext", step === undefined ? "no step yet" : `step ${step}`);
    this.output.textContent = step === undefined ? "" : `step ${step}`;
  }

  play() {
    const count = this.steps.length;
    if (count < 2) return;
    if (this.index >= count - 1) this.index = 0;
    this.button.textContent = "❚❚ Pause";
    const from = this.index;
    const begin = performance.now();
    this.timer = setInterval(() => {
      const index = Math.min(count - 1, from + Math.floor(((performance.now() - begin) / PLAY_MS) * count));
      this.goTo(index);
      if (index >= count - 1) this.stop();
    }, TICK_MS);
  }

  stop() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = 0;
    this.button.textContent = "▶ Play";
    this.goTo(this.index);
  }
}
