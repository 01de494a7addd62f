// The measures of a score run: what they are called, what they say, and their formulas.

export const MEASURES = {
  ches: {
    label: "CHES",
    formula: "⟨S+, S−⟩ − ⟨S+, S+⟩",
    why: "High, near or above zero: the two responses look alike to the model, and training on the pair displaces.",
  },
  ln_ches: {
    label: "Length-normalised CHES",
    formula: "⟨S+, S−⟩/(n+ n−) − ⟨S+, S+⟩/n+²",
    why: "CHES of the mean instead of the summed hidden embeddings, so that long responses compare with short ones.",
  },
  last_hidden_inner_product: {
    label: "Last-hidden inner product",
    formula: "⟨h(x, y+_<n+), h(x, y−_<n−)⟩",
    why: "The inner product of the hidden embeddings before the last token of each response.",
  },
  normalized_edit_distance: {
    label: "Normalised edit distance",
    formula: "lev(y+, y−) / max(n+, n−)",
    why: "Levenshtein distance of the two token sequences over the longer length: 0 is identical, 1 shares nothing.",
  },
  preferred_logprob: {
    label: "log p(y+)",
    formula: "Σ_k log p(y+_k | x, y+_<k)",
    why: "Log-probability of the preferred response, summed over its tokens, in nats.",
  },
  dispreferred_logprob: {
    label: "log p(y−)",
    formula: "Σ_k log p(y−_k | x, y−_<k)",
    why: "Log-probability of the dispreferred response, summed over its tokens, in nats.",
  },
};

/** By these, two responses are the more alike the smaller the value is. */
export const LOW_IS_ALIKE = new Set(["normalized_edit_distance"]);

/** [[name, label]] of a choice. */
export const labelled = (names) => names.map((name) => [name, MEASURES[name].label]);
