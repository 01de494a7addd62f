import { $ } from "./dom.js";
import { keepFresh } from "./refresh.js";

const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
keepFresh();
