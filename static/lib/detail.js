// A long run is loaded coarsely; where someone zooms in, the steps in between are fetched.

/** So many points are more than a chart has pixels for, with room for the extremes. */
export const POINTS = 1500;

const overlaps = (outer, [from, to]) => outer[0] <= from && to <= outer[1];

export class Detail {
  /** load(query): the API's answer for "points=…&from_step=…&to_step=…"; onload(answer). */
  constructor(load, onload) {
    this.load = load;
    this.onload = onload;
    this.isCoarse = false;
    this.known = []; // stretches in which every recorded step is known
  }

  /** The answer for the whole run came. */
  begin(answer) {
    this.isCoarse = Boolean(answer.decimated);
    this.known = [];
  }

  /** Someone looks at these steps. */
  async show([from, to]) {
    const stretch = [Math.max(0, Math.floor(from)), Math.ceil(to)];
    if (!this.isCoarse || this.known.some((known) => overlaps(known, stretch))) return;
    const answer = await this.load(`points=${POINTS}&from_step=${stretch[0]}&to_step=${stretch[1]}`);
    if (!answer.decimated) this.known.push(stretch);
    this.onload(answer);
  }
}
