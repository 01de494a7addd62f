// The home page: adding a dataset, and an up-to-date list of runs.

import { keepFresh } from "../lib/refresh.js";
import "./_alarms.js";
import "./datasets.js";

keepFresh();
