// Names of datasets on the hub.

/**
 * org/name, also of the address of its page, which people paste.
 *
 * @param {string} typed
 */
export function hubName(typed) {
  const [, name] = /^(?:https?:\/\/[^/]+\/datasets\/|hf:\/\/datasets\/)([^?#]*)/.exec(typed.trim()) ?? [];
  return name ? name.split("/").slice(0, 2).join("/") : typed.trim();
}
