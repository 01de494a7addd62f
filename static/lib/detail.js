// Loads a long run's steps downsampled, and at full resolution where someone zooms in.

/** @typedef {{decimated?: boolean}} Downsampled whether the response leaves out steps of the range */

/** How many steps are asked for: more than a chart has pixels, with room for the extremes. */
export const POINTS = 1500;

/** @param {[number, number]} outer @param {[number, number]} inner */
const contains = (outer, inner) => outer[0] <= inner[0] && inner[1] <= outer[1];

/** @template {Downsampled} T */
export class Detail {
  /**
   * @param {(query: string) => Promise<T>} load requests "points=…&from_step=…&to_step=…"
   * @param {(answer: T) => void} onload called with the steps of a range
   */
  constructor(load, onload) {
    this.load = load;
    this.onload = onload;
    this.isDownsampled = false;
    /** @type {[number, number][]} ranges of which every recorded step is known */
    this.known = [];
  }

  /** The response for the whole run has arrived. @param {T} answer */
  begin(answer) {
    this.isDownsampled = Boolean(answer.decimated);
    this.known = [];
  }

  /** Load the steps of a range unless all of them are known. @param {[number, number]} range */
  async show([from, to]) {
    /** @type {[number, number]} */
    const range = [Math.max(0, Math.floor(from)), Math.ceil(to)];
    if (!this.isDownsampled || this.known.some((known) => contains(known, range))) return;
    const answer = await this.load(`points=${POINTS}&from_step=${range[0]}&to_step=${range[1]}`);
    if (!answer.decimated) this.known.push(range);
    this.onload(answer);
  }
}

/**
 * The range on the horizontal axis after a zoom.
 *
 * @param {Record<string, any>} change Plotly's relayout event
 * @returns {[number, number] | null} null where the horizontal axis was not zoomed
 */
export function rangeOf(change) {
  const both = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  return both.every(Number.isFinite) ? both : null;
}
