// What a person does before the page's scripts have come is done once they have: a classic script in
// the head, not a module. On a slow line or a busy machine the page is seen seconds before they run.
(() => {
  const TYPES = ["click", "input", "change", "toggle", "submit"];
  /** @type {Map<EventTarget, Map<string, () => unknown>>} in the order of what was done; of each kind the last */
  const kept = new Map();

  /** @param {Event} event */
  function keep(event) {
    const at = /** @type {HTMLElement} */ (event.target);
    /** @type {() => unknown} */
    let repeat = () => at.dispatchEvent(new Event(event.type, { bubbles: event.bubbles }));
    if (event.type === "click") {
      // Links, marks and buttons that submit do what they do without a script.
      const button = /** @type {HTMLElement | null} */ (at.closest("button[type=button]"));
      if (!button) return;
      repeat = () => button.click();
    } else if (event.type === "submit") {
      const { submitter } = /** @type {SubmitEvent} */ (event);
      repeat = () => /** @type {HTMLFormElement} */ (at).requestSubmit(submitter);
      event.preventDefault();
    }
    event.stopImmediatePropagation(); // a script that is there already acts once, with the others
    const ofTarget = kept.get(at) ?? new Map();
    kept.set(at, ofTarget);
    ofTarget.set(event.type, repeat);
  }

  for (const type of TYPES) document.addEventListener(type, keep, { capture: true });
  // Deferred scripts and modules have run by then, and after a pause what waits for the same event.
  document.addEventListener("DOMContentLoaded", () =>
    setTimeout(() => {
      for (const type of TYPES) document.removeEventListener(type, keep, { capture: true });
      for (const ofTarget of kept.values()) for (const repeat of ofTarget.values()) repeat();
    }),
  );
})();
