import { $ } from "../lib/dom.js";

const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
