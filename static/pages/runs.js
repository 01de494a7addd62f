import { $ } from "../lib/dom.js";
import { keepFresh } from "../lib/refresh.js";

const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
keepFresh();
