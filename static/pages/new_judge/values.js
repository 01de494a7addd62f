// The configuration of a judge run from the values of its form's controls.

/**
 * Only what the chosen judge reads; what is empty keeps its default.
 *
 * @param {(field: string) => string} read the content of a control
 * @returns {Record<string, unknown>}
 */
export function judgeConfig(read) {
  const judge = read("judge");
  const text = (/** @type {string} */ field) => ({ [field]: read(field).trim() || undefined });
  const number = (/** @type {string} */ field) => {
    const content = read(field).trim();
    // What is no number is sent as it is, so that the server's message stands at the field.
    return { [field]: content === "" ? undefined : Number.isNaN(Number(content)) ? content : Number(content) };
  };
  const settings = {
    keywords: () => ({ keywords: lines(read("keywords")), ...number("keyword_characters") }),
    classifier: () => ({
      ...text("classifier"),
      ...text("label"),
      ...number("threshold"),
      ...text("reads"),
      ...text("device"),
    }),
    endpoint: () => ({ ...text("endpoint_model"), ...text("question") }),
  };
  return { judge, ...settings[/** @type {keyof typeof settings} */ (judge)]() };
}

/** Lines that are not blank, each once. @param {string} text */
export function lines(text) {
  const found = text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  return [...new Set(found)];
}
