// Changes to fields of the form, of which what is shown beside it is made anew.

/**
 * Call `act` once the person has stopped changing fields that it is about.
 *
 * @param {HTMLElement} form
 * @param {(name: string) => boolean} concerns whether it is about the field of this name
 * @param {() => void} act
 * @param {number} delay milliseconds after the last change
 */
export function whenChanged(form, concerns, act, delay) {
  let timer = 0;
  for (const kind of ["input", "change"])
    form.addEventListener(kind, (event) => {
      const box = /** @type {HTMLElement} */ (event.target).closest("[data-field]");
      if (!(box instanceof HTMLElement && concerns(box.dataset.field ?? ""))) return;
      clearTimeout(timer);
      timer = setTimeout(act, delay);
    });
}
