// Updates the parts of a page marked data-refresh="key" to what the server renders now.

import { $, $$ } from "./dom.js";

/** Fetch this page again and replace the marked parts that differ. @param {string[]} [keys] default: all */
export async function refresh(keys) {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of $$("[data-refresh]")) {
    const key = part.dataset.refresh;
    if (keys && !keys.includes(key)) continue;
    const other = fresh.querySelector(`[data-refresh="${key}"]`);
    if (!other || other.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) && document.activeElement?.getAttribute("href");
    part.replaceWith(document.importNode(other, true));
    if (focused) $(`[data-refresh="${key}"] a[href="${CSS.escape(focused)}"]`)?.focus();
  }
}

/** Poll: at short intervals while a run is active, at longer ones otherwise, never in a background tab. */
export function keepFresh({ busy = 2000, idle = 10_000 } = {}) {
  const isBusy = () => document.querySelector(".chip.running, .chip.queued, .chip.lost") !== null;
  const later = () => setTimeout(tick, isBusy() ? busy : idle);
  async function tick() {
    if (!document.hidden) await refresh().catch(() => {});
    later();
  }
  later();
  document.addEventListener("visibilitychange", () => !document.hidden && refresh().catch(() => {}));
}
