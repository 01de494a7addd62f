// The audit page: filters apply when they change.

import { $ } from "../lib/dom.js";

const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
