// Which tokens two responses share, by longest common subsequence (LCS).

const MOST_CELLS = 4_000_000;

/**
 * Cut a response into its tokens; without `ends`, into words.
 *
 * @param {string} text
 * @param {number[] | null} [ends] where each token ends, in code points
 */
export function tokensOf(text, ends) {
  // Ends count characters as Python does: code points, not UTF-16 units.
  const points = Array.from(text);
  if (!ends?.length) return points.length ? text.split(/(?<=\s)/) : [];
  const tokens = ends.map((end, i) => points.slice(i ? ends[i - 1] : 0, end).join(""));
  const rest = points.slice(ends[ends.length - 1]).join("");
  return rest ? [...tokens, rest] : tokens;
}

/**
 * Mark the tokens of a longest common subsequence.
 *
 * @param {string[]} a
 * @param {string[]} b
 * @returns {{a: boolean[], b: boolean[], fork: number}} whether each token is shared; fork: the first index at which
 *   the two differ
 */
export function diff(a, b) {
  const sharedA = new Array(a.length).fill(false);
  const sharedB = new Array(b.length).fill(false);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) {
    sharedA[start] = sharedB[start] = true;
    start += 1;
  }
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
    sharedA[endA] = sharedB[endB] = true;
  }
  const [rows, columns] = [endA - start, endB - start];
  // table[i][j] is the length of the longest common subsequence of a[start + i:] and b[start + j:]. Texts too long
  // for it are shown as entirely different between their common ends.
  if (rows * columns > 0 && rows * columns <= MOST_CELLS) {
    const width = columns + 1;
    const table = new Uint32Array((rows + 1) * width);
    for (let i = rows - 1; i >= 0; i -= 1) {
      for (let j = columns - 1; j >= 0; j -= 1) {
        table[i * width + j] =
          a[start + i] === b[start + j]
            ? table[(i + 1) * width + j + 1] + 1
            : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
      }
    }
    for (let i = 0, j = 0; i < rows && j < columns; ) {
      if (a[start + i] === b[start + j]) {
        sharedA[start + i] = sharedB[start + j] = true;
        i += 1;
        j += 1;
      } else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i += 1;
      else j += 1;
    }
  }
  return { a: sharedA, b: sharedB, fork: start };
}
