import { keepFresh } from "./refresh.js";
import "./upload.js";

keepFresh();
