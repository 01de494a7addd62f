// The status page: stays up to date.

import { keepFresh } from "../lib/refresh.js";

keepFresh({ busy: 2000, idle: 3000 });
