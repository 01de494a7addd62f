// Where a text that was searched for stands in another.

/**
 * Cut a text at each place where another stands in it, in upper or lower case.
 *
 * @param {string} text
 * @param {string} search empty: nothing is looked for
 * @returns {{text: string, found: boolean}[]} the parts in their order, together the whole text
 */
export function partsOf(text, search) {
  if (!search) return [{ text, found: false }];
  // Not by the lower case of both texts: that of some letters is longer than they are.
  const literal = search.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return text
    .split(new RegExp(`(${literal})`, "iu"))
    .map((part, i) => ({ text: part, found: i % 2 === 1 }))
    .filter((part) => part.text);
}
