// The choice of the rule by which rows with several rated responses make pairs.

import { $, h } from "../../lib/dom.js";

/**
 * @param {any} seen the response of /datasets/preview
 * @param {(pairing: string) => void} choose
 */
export function pairingForm(seen, choose) {
  const [rule, least = ""] = (seen.pairing ?? "").split(":");
  const gap = h("input", {
    id: "pairing-gap",
    type: "number",
    min: "0",
    step: "any",
    value: least,
    hidden: rule !== "gap",
    "aria-label": "Least difference of the ratings",
  });
  const select = h(
    "select",
    { id: "pairing-rule" },
    seen.pairings.map((option) => h("option", { value: option.rule, selected: option.rule === rule }, option.label)),
  );
  const form = h(
    "form",
    { class: "filters pairing" },
    h("label", { class: "inline" }, "Pairs are ", select),
    gap,
    h("button", { type: "submit" }, "Look again with this rule"),
    h("span", { class: "form-error", role: "alert" }),
  );
  select.addEventListener("change", () => {
    gap.hidden = select.value !== "gap";
    if (!gap.hidden) gap.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const isComplete = select.value !== "gap" || Number(gap.value) > 0;
    $(".form-error", form).textContent = isComplete ? "" : "Give the least difference, above 0.";
    if (isComplete) choose(select.value === "gap" ? `gap:${gap.value}` : select.value);
  });
  return form;
}
