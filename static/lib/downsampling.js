// Downsampling that keeps every peak: fewer points for the screen.

/** @typedef {(number | null | undefined)[]} Column null or undefined where there is no number */

/**
 * Indices of about `most` of the points: of each stretch its first point, and of every column the lowest and the
 * highest; always the very first and last.
 *
 * @param {number} length
 * @param {Column[]} columns each of that length
 * @param {number} most
 * @returns {number[]} ascending
 */
export function keptIndices(length, columns, most) {
  if (length <= most) return Array.from({ length }, (_, i) => i);
  const stretches = Math.max(1, Math.floor(most / (2 * columns.length + 1)));
  const kept = new Set([0, length - 1]);
  for (let s = 0; s < stretches; s += 1) {
    const from = Math.floor((s * length) / stretches);
    const to = Math.floor(((s + 1) * length) / stretches);
    kept.add(from);
    for (const column of columns) for (const i of extremes(column, from, to)) kept.add(i);
  }
  return [...kept].sort((a, b) => a - b);
}

/**
 * Indices of a column's lowest and highest number in [from, to); none where it has no number there.
 *
 * @param {Column} column
 * @param {number} from
 * @param {number} to
 */
function extremes(column, from, to) {
  let [low, high] = [-1, -1];
  let [least, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = from; i < to; i += 1) {
    const value = column[i];
    if (typeof value !== "number" || !Number.isFinite(value)) continue;
    if (value < least) [low, least] = [i, value];
    if (value > largest) [high, largest] = [i, value];
  }
  return low < 0 ? [] : [low, high];
}
