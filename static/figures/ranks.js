// Ranks and the correlation of two lists.

/** Ranks from 1; equal values share their mean rank. */
export function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Array(values.length);
  for (let i = 0; i < order.length; ) {
    let j = i;
    while (j < order.length && values[order[j]] === values[order[i]]) j += 1;
    for (let k = i; k < j; k += 1) result[order[k]] = (i + j + 1) / 2;
    i = j;
  }
  return result;
}

/** null where one of the lists does not vary. */
export function pearson(a, b) {
  const mean = (xs) => xs.reduce((sum, x) => sum + x, 0) / xs.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((x, i) => {
    ab += (x - ma) * (b[i] - mb);
    aa += (x - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  });
  return aa && bb ? ab / Math.sqrt(aa * bb) : null;
}
