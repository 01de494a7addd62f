// Which settings differ between runs.

/** @typedef {Record<string, unknown>} Config */

/**
 * Nested settings under dotted names: {a: {b: 1}, c: {}} → {"a.b": 1}. Lists stay whole.
 *
 * @param {Config | null | undefined} config
 * @returns {Config}
 */
export function flat(config, prefix = "") {
  return Object.fromEntries(
    Object.entries(config ?? {}).flatMap(([name, value]) => {
      const path = prefix + name;
      const isNested = value !== null && typeof value === "object" && !Array.isArray(value);
      return isNested ? Object.entries(flat(/** @type {Config} */ (value), `${path}.`)) : [[path, value]];
    }),
  );
}

/**
 * @param {Config[]} configs one a run
 * @returns {[string, unknown[]][]} name and each run's value (undefined: not set) of the settings that are not equal
 *   in all runs
 */
export function differences(configs) {
  const all = configs.map((config) => flat(config));
  const names = [...new Set(all.flatMap(Object.keys))];
  return names
    .map((name) => /** @type {[string, unknown[]]} */ ([name, all.map((config) => config[name])]))
    .filter(([, values]) => new Set(values.map((value) => JSON.stringify(value ?? null))).size > 1);
}
