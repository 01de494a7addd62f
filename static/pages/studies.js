// The list of studies, kept up to date.

import { keepFresh } from "../lib/refresh.js";

keepFresh();
