// Fewer points for the screen, in such a way that no peak is lost.

/** Indices of about `most` of the points: of each stretch its first, and of every column the lowest
 *  and the highest; always the very first and last. columns: lists of numbers, null where none. */
export function keptIndices(length, columns, most) {
  if (length <= most) return Array.from({ length }, (_, i) => i);
  const stretches = Math.max(1, Math.floor(most / (2 * columns.length + 1)));
  const kept = new Set([0, length - 1]);
  for (let s = 0; s < stretches; s += 1) {
    const from = Math.floor((s * length) / stretches);
    const to = Math.floor(((s + 1) * length) / stretches);
    kept.add(from);
    for (const column of columns) {
      const [low, high] = extremes(column, from, to);
      if (low !== null) kept.add(low).add(high);
    }
  }
  return [...kept].sort((a, b) => a - b);
}

/** Where a column is lowest and highest in [from, to); [null, null] where it has no number. */
function extremes(column, from, to) {
  let [low, high] = [null, null];
  for (let i = from; i < to; i += 1) {
    const value = column[i];
    if (!Number.isFinite(value)) continue;
    if (low === null || value < column[low]) low = i;
    if (high === null || value > column[high]) high = i;
  }
  return [low, high];
}
