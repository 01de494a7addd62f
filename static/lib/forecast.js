// Forecasts of the first step in words and numbers: pure functions of what GET /runs/{id}/forecast returns.

import { count, number, percent } from "./format.js";

/** @import { MaybeNumber } from "./types.js" */

/** @typedef {{value: number, falling: number}} CurvePoint */
/** @typedef {{
 *    remedy: string, objective: string, recommended: MaybeNumber, prevents_all: MaybeNumber, curve: CurvePoint[],
 *  }} RemedyCurve */
/** @typedef {{
 *    objective: string, config: Record<string, string | number | boolean>, pairs: number, missing: number,
 *    falling: number, rising_dispreferred: number, remedies: RemedyCurve[],
 *  }} Forecast */
/** @typedef {{
 *    objective: string, pairs: number, forecast_fall_fell: number, forecast_fall_not: number,
 *    not_forecast_fell: number, not_forecast_not: number, hit_rate: MaybeNumber, base_rate: MaybeNumber,
 *  }} ForecastCheck */

/** Whether smaller values are the stronger ones, as of dpo_shift_lambda. @param {CurvePoint[]} curve */
export const isDownwards = (curve) => curve.length > 1 && curve[1].value < curve[0].value;

/**
 * The slider's stop for a value: the last point that is not stronger. At most as many pairs fall at the value as at
 * the stop, for the curve never rises.
 *
 * @param {CurvePoint[]} curve from no remedy to the strongest
 * @param {number} value
 */
export function stopOf(curve, value) {
  const sign = isDownwards(curve) ? -1 : 1;
  let stop = 0;
  while (stop + 1 < curve.length && sign * curve[stop + 1].value <= sign * value) stop += 1;
  return stop;
}

/** "1 preferred response", "2 preferred responses". @param {number} size @param {string} which */
const responses = (size, which) => `${count(size)} ${which} response${size === 1 ? "" : "s"}`;

/** @param {Forecast} forecast */
export function forecastSentence({ falling, pairs, objective }) {
  const all = `${count(pairs)} preferred response${pairs === 1 ? "" : "s"}`;
  return `${count(falling)} of ${all} would fall at the first step under ${objective}.`;
}

/** What a remedy leaves. @param {RemedyCurve} remedy @param {number} stop @param {number} pairs */
export function remedySentence({ remedy, curve }, stop, pairs) {
  const { value, falling } = curve[stop];
  return `${remedy} ${coefficient(value)}: ${count(falling)} of ${count(pairs)} would fall.`;
}

/** All digits: it is to be typed into a configuration, and rounded it might prevent less. @param {number} value */
export const coefficient = (value) => String(value);

/** @param {Forecast} forecast */
export function restSentence({ rising_dispreferred: rising, missing }) {
  const parts = [];
  if (rising) parts.push(`${responses(rising, "dispreferred")} would rise.`);
  if (missing) parts.push(`${count(missing)} pair${missing === 1 ? " has" : "s have"} no forecast.`);
  return parts.join(" ");
}

/** The settings that an objective reads besides beta. @type {Record<string, string[]>} */
export const OWN_SETTINGS = {
  slic: ["slic_delta"],
  simpo: ["simpo_gamma"],
  odpo: ["odpo_alpha", "odpo_offset"],
  dpo_shift: ["dpo_shift_lambda"],
  bdpo: ["bdpo_lambda"],
  alphapo: ["alphapo_alpha", "simpo_gamma"],
};

/**
 * The address of a new run with the forecast's settings and a remedy.
 *
 * @param {{id: number, dataset_id: number}} run the score run, whose model and limits are taken over
 * @param {Forecast} forecast
 * @param {RemedyCurve} remedy
 * @param {number} value
 */
export function trainAddress(run, { config }, { remedy, objective }, value) {
  const { beta, length_normalize } = config;
  const own = Object.fromEntries((OWN_SETTINGS[objective] ?? []).map((name) => [name, config[name]]));
  const settings = { kind: "train", like: run.id, objective, beta, ...own, length_normalize, [remedy]: value };
  const query = new URLSearchParams(Object.entries(settings).map(([name, setting]) => [name, String(setting)]));
  return `/datasets/${run.dataset_id}/new?${query}`;
}

/** How good a forecast was, against the best guess that ignores the pairs. @param {ForecastCheck} check */
export function hitSentence(check) {
  const hits = check.forecast_fall_fell + check.not_forecast_not;
  const fell = check.forecast_fall_fell + check.not_forecast_fell;
  const foretold = check.forecast_fall_fell + check.forecast_fall_not;
  return [
    `The sign was right for ${count(hits)} of ${count(check.pairs)} pairs (${percent(check.hit_rate)});`,
    `the same guess for every pair would be right for ${percent(check.base_rate)}.`,
    fell
      ? `Of ${responses(fell, "preferred")} that fell, ${count(check.forecast_fall_fell)} had been forecast to.`
      : "No preferred response fell.",
    foretold
      ? `Of ${count(foretold)} forecast to fall, ${count(check.forecast_fall_not)} did not.`
      : "None had been forecast to fall.",
  ].join(" ");
}

/** A rank correlation, "–" where there is none. @param {MaybeNumber} value */
export const rank = (value) => number(value, 2);
