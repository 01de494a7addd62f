import { keepFresh } from "../lib/refresh.js";
import "./datasets.js";

keepFresh();
