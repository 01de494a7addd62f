// The list of runs: filters apply when they change; the list stays up to date.

import { $ } from "../lib/dom.js";
import { keepFresh } from "../lib/refresh.js";
import "./_alarms.js";

const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
keepFresh();
