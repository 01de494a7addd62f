// In which settings runs differ.

/** {a: {b: 1}, c: {}} → {"a.b": 1}; lists stay whole. */
export function flat(config, prefix = "") {
  return Object.fromEntries(
    Object.entries(config ?? {}).flatMap(([name, value]) => {
      const path = prefix + name;
      const isNested = value !== null && typeof value === "object" && !Array.isArray(value);
      return isNested ? Object.entries(flat(value, `${path}.`)) : [[path, value]];
    }),
  );
}

/** [[name, [value of each run]]] of the settings that are not the same in all; undefined: not set. */
export function differences(configs) {
  const all = configs.map((config) => flat(config));
  const names = [...new Set(all.flatMap(Object.keys))];
  return names
    .map((name) => [name, all.map((config) => config[name])])
    .filter(([, values]) => new Set(values.map((value) => JSON.stringify(value ?? null))).size > 1);
}
