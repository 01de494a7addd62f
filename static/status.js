import { keepFresh } from "./refresh.js";

keepFresh({ busy: 2000, idle: 3000 });
