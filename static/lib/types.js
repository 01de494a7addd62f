// Types of what the API sends and of what the pages pass on, for the type checker only: no code.

/** A number, or null where none was recorded or it was not finite: JSON has no NaN.
 *  @typedef {number | null} MaybeNumber */

/** One optimizer step: means over its batch, log-probabilities in nats (GET /runs/{id}/metrics).
 *  @typedef {{
 *    step: number, loss?: MaybeNumber, margin?: MaybeNumber, preferred_logprob?: MaybeNumber,
 *    dispreferred_logprob?: MaybeNumber, preferred_change?: MaybeNumber, dispreferred_change?: MaybeNumber,
 *    displaced_fraction?: MaybeNumber, accuracy?: MaybeNumber, grad_norm?: MaybeNumber, learning_rate?: MaybeNumber,
 *    tokens_per_second?: MaybeNumber, tokens_seen?: MaybeNumber, nonfinite?: string[],
 *    extra?: Record<string, MaybeNumber> | null,
 *  }} MetricRow */

/** The numeric columns of a MetricRow.
 *  @typedef {Exclude<keyof MetricRow, "step" | "nonfinite" | "extra">} MetricName */

/** A token whose probability is recorded at every step; `predicted`: its predicted change at the fork for a small
 *  step, up to a common positive factor.
 *  @typedef {{token_id: number, token: string, initial?: MaybeNumber, predicted?: MaybeNumber}} WatchedToken */

/** How bad a displacement is; null where that cannot be told.
 *  @typedef {"kept" | "benign" | "catastrophic"} DisplacementKind */

/** The largest fall of a curve, from a peak to a later trough.
 *  @typedef {{size: number, peak: number, peak_step: number, trough: number, trough_step: number}} Drawdown */

/** What a kind of displacement rests on.
 *  @typedef {{
 *    pair: number, kind: DisplacementKind | null, destination: string | null,
 *    destination_gains: {destination: string, gain: number}[], position: number | null, onset_step: number | null,
 *    drawdown: Drawdown | null, logprob_drawdown: Drawdown | null, top_gainer: {token: string, change: number} | null,
 *    squeezing: boolean, answer_turned: boolean,
 *  }} Displacement */

/** What does not change about a probe (GET /runs/{id}/probes).
 *  @typedef {{
 *    pair: number, kind: "pair" | "prompt", name?: string | null, prompt: string, preferred_tokens: string[],
 *    dispreferred_tokens: string[], fork_position: number, groups?: Record<string, string[]>,
 *    groups_list?: {name: string, tokens?: string[]}[], watched: WatchedToken[],
 *    displacement_kind?: DisplacementKind | null,
 *  }} Probe */

/** A token's probability at step 0 (`initial`), at the ledger's step (`final`), and the difference.
 *  @typedef {WatchedToken & {final?: MaybeNumber, change: number}} LedgerEntry */

/** A ledger entry with its probability at every recorded step.
 *  @typedef {LedgerEntry & {probs: MaybeNumber[]}} TracedEntry */

/** All or some of a probe's recorded steps (GET /runs/{id}/probes/{pair}); logprobs: [step][token], nats.
 *  @typedef {{
 *    steps: number[], preferred?: {logprobs: MaybeNumber[][]}, dispreferred?: {logprobs: MaybeNumber[][]},
 *    fork: {
 *      preferred_prob?: MaybeNumber[], dispreferred_prob?: MaybeNumber[], other_prob?: MaybeNumber[],
 *      groups?: Record<string, MaybeNumber[]>,
 *    },
 *    gainers: TracedEntry[], losers: TracedEntry[], rest_change?: MaybeNumber, moved_mass: MaybeNumber[],
 *    rank_agreement?: MaybeNumber[], ledger_step: number | null, verdict?: string | null,
 *    verdict_short?: string | null,
 *    displacement_kind?: DisplacementKind | null, displacement?: Displacement | null,
 *    destination_onsets?: Record<string, number>,
 *  }} ProbeSeries */

/** One recorded step of a probe, as the event stream sends it.
 *  @typedef {{
 *    pair?: number, step: number, preferred_logprobs?: MaybeNumber[], dispreferred_logprobs?: MaybeNumber[],
 *    preferred_prob?: MaybeNumber, dispreferred_prob?: MaybeNumber, other_prob?: MaybeNumber,
 *    group_probs: MaybeNumber[], moved_mass?: MaybeNumber, rank_agreement?: MaybeNumber,
 *    watched_probs: MaybeNumber[], gainers: LedgerEntry[], losers: LedgerEntry[], rest_change?: MaybeNumber,
 *  }} ProbeRow */

/** One recorded step of a probe as a ProbeHistory holds it; traced: token id → probability.
 *  @typedef {{
 *    step: number, preferredLogprobs: MaybeNumber[], dispreferredLogprobs: MaybeNumber[],
 *    preferredSum: MaybeNumber, dispreferredSum: MaybeNumber, preferredProb: MaybeNumber,
 *    dispreferredProb: MaybeNumber, otherProb: MaybeNumber, groupProbs: MaybeNumber[], movedMass: MaybeNumber,
 *    rankAgreement: MaybeNumber, traced: Map<number, MaybeNumber>,
 *  }} ProbeStep */

/** A token as a ledger shows it: `now` is its probability at the ledger's step; predictedRank: 1, 2, … among the
 *  predicted gainers, −1, −2, … among the predicted losers.
 *  @typedef {WatchedToken & {now?: MaybeNumber, change: number, predictedRank: MaybeNumber}} LedgerRow */

/** The mass ledger of one step at one position: all changes and `rest` sum to zero.
 *  @typedef {{gainers: LedgerRow[], losers: LedgerRow[], rest: MaybeNumber, rankAgreement?: MaybeNumber}} Ledger */

/** A token that theory predicts to gain, with its rank in the vocabulary and what it did.
 *  @typedef {{
 *    token_id: number, token: string, predicted?: MaybeNumber, predicted_rank: number, actual_rank: MaybeNumber,
 *    actual_change: MaybeNumber,
 *  }} Prediction */

/** A token among the top predicted or the top actual gainers; a rank is null where it is not among the top.
 *  @typedef {{
 *    token_id: number, token: string, predictedRank: MaybeNumber, actualRank: MaybeNumber, change: MaybeNumber,
 *  }} RankPair */

/** Over the probes, one value a step.
 *  @typedef {"q05" | "q25" | "q50" | "q75" | "q95"} QuantileName
 *  @typedef {Record<QuantileName, MaybeNumber[]>} Quantiles */

/** How the changes of all watched pairs are distributed (GET /runs/{id}/probes/bands), in nats.
 *  @typedef {{
 *    steps: number[], preferred_change: Quantiles, dispreferred_change: Quantiles, margin: Quantiles,
 *    displaced_fraction: MaybeNumber[], probes?: number, decimated?: boolean,
 *  }} Bands */

/** What the model generates for a probe's prompt at one step; ended: before the limit of tokens.
 *  @typedef {{step: number, text: string, ended: boolean}} Answer */

/** A prompt as text or as chat messages.
 *  @typedef {string | {role: string, content: string}[]} Prompt */

/** A measure of a score run, as chesboard/measures/registry.py declares it; similar_end: which end of the values
 *  means that the two responses are similar.
 *  @typedef {{
 *    name: string, label: string, short_label: string, formula: string, help: string, unit: string,
 *    needs_hidden: boolean, similar_end: "high" | "low" | null,
 *  }} Measure */

/** The page's colors as the style sheet has them.
 *  @typedef {{
 *    ink: string, ink2: string, line: string, surface: string, sunken?: string, preferred: string,
 *    dispreferred: string, other: string, series: string[], runs: string[], sans: string, dark: boolean,
 *  }} Colors */

/** The role of a token at a position: which response it continues, if any.
 *  @typedef {"preferred" | "dispreferred" | "other"} Role */

/** What Plotly draws. Its own schema is open, so traces and layouts are not typed further.
 *  @typedef {Record<string, any>} Trace
 *  @typedef {Record<string, any>} Layout
 *  @typedef {{data: Trace[], layout: Layout}} Figure */

/** A chart of a study as numbers (GET /studies/{id}); error: standard deviations; low, high: a band, or
 *  the ends of the whiskers of bars.
 *  @typedef {{
 *    title: string, why: string, x_title: string, y_title: string, y_range: [number, number] | null, small: boolean,
 *    series: {
 *      name: string, kind: "line" | "bars", x: (number | string)[], y: MaybeNumber[], error: MaybeNumber[] | null,
 *      low: MaybeNumber[] | null, high: MaybeNumber[] | null, color: "preferred" | "dispreferred" | "run",
 *    }[],
 *  }} StudyPanel */

/** Columns of a CSV file by name.
 *  @typedef {Record<string, unknown[]>} Columns */

export {};
