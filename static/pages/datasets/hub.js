// Adding a dataset of the hub by its name: look-up, choice of a split, preview, and the download with its progress.

import { api, Problem } from "../../lib/api.js";
import { $, dataTable, h } from "../../lib/dom.js";
import { bytes, count } from "../../lib/format.js";
import { hubName } from "./hub-name.js";
import { previewView } from "./preview.js";
import {
  newKey,
  notice,
  result,
  settle,
  showFailure,
  showKnown,
  showProgress,
  showStatus,
  showStored,
} from "./upload.js";

const POLL_MS = 400;

/** @typedef {{
 *   hub: string, revision?: string, config?: string, split?: string,
 * } & import("./upload.js").How} Wanted */
/** @typedef {{config: string, split: string, files: number, bytes: number}} Split */

/** @param {HTMLFormElement} form */
export function startHubForm(form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const revision = $('[name="revision"]', form).value.trim();
    lookUp({ hub: hubName($('[name="hub"]', form).value), ...(revision ? { revision } : {}) });
  });
}

/** Show how the split would be read, or which splits there are. @param {Wanted} wanted */
async function lookUp(wanted) {
  const named = { name: nameOf(wanted) };
  result().replaceChildren();
  let seen;
  try {
    seen = await fetched("/datasets/preview", wanted, `${named.name}: looking it up…`);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const { splits, revision, hub } = problem.more;
    if (splits) showSplits({ ...wanted, revision }, splits, wanted.split ? problem.message : "");
    else if (hub) showUnseen(wanted, hub, problem);
    else showFailed(named, problem);
    return;
  }
  const pinned = pin(wanted, seen.hub);
  const how = { mapping: wanted.mapping, pairing: wanted.pairing };
  const card = previewView({ name: nameOf(pinned) }, seen, how, {
    store: (chosen) => store({ ...pinned, ...chosen }),
    previewAgain: (chosen) => lookUp({ ...pinned, ...chosen }),
    cancel: () => result().replaceChildren(),
  });
  $(".card-head", card).after(sourceLine(seen.hub));
  if (seen.hub.splits.length > 1) $(".preview-actions", card).append(anotherSplit(pinned, seen.hub.splits));
  result().replaceChildren(card);
  $("button.primary", card)?.focus();
}

/** What was looked up, at its commit: what is stored is what was shown. */
const pin = (wanted, { revision, config, split }) => ({ ...wanted, revision, config, split });

/** @param {Wanted} wanted */
const nameOf = ({ hub, config, split }) =>
  hub + (split ? `: ${config && config !== "default" ? `${config}, ` : ""}${split}` : "");

const sourceLine = (hub) =>
  h(
    "p",
    { class: "facts-line" },
    h("span", {}, `${bytes(hub.bytes)} in ${hub.files.length === 1 ? "1 file" : `${count(hub.files.length)} files`}`),
    h("span", {}, "commit ", h("code", { title: hub.revision }, hub.revision.slice(0, 7))),
  );

const anotherSplit = (wanted, splits) =>
  h("button", { type: "button", onclick: () => showSplits(wanted, splits) }, "Another split");

/** @param {Wanted} wanted @param {Split[]} splits @param {string} message what was wrong with the one that was named */
function showSplits(wanted, splits, message = "") {
  const look = ({ config, split }) => lookUp({ ...wanted, config, split, mapping: undefined, pairing: undefined });
  const card = h(
    "section",
    { class: "card", "aria-label": `Splits of ${wanted.hub}` },
    h("div", { class: "card-head" }, h("h2", {}, `${wanted.hub}: which split?`)),
    message ? h("p", { class: "small" }, message) : null,
    dataTable(
      [
        h("th", {}, "Configuration"),
        h("th", {}, "Split"),
        h("th", { class: "num narrow-hide" }, "Files"),
        h("th", { class: "num" }, "Size"),
        h("th", {}),
      ],
      splits.map((one) =>
        h(
          "tr",
          {},
          h("td", {}, one.config),
          h("td", {}, h("strong", {}, one.split)),
          h("td", { class: "num narrow-hide" }, count(one.files)),
          h("td", { class: "num" }, bytes(one.bytes)),
          h("td", { class: "num" }, h("button", { type: "button", onclick: () => look(one) }, "Preview")),
        ),
      ),
    ),
  );
  result().replaceChildren(card);
  $("button", card)?.focus();
}

/** A table that is too large for a preview can be stored all the same. */
function showUnseen(wanted, hub, problem) {
  const pinned = pin(wanted, hub);
  notice(
    "warn",
    `${nameOf(pinned)}: ${bytes(hub.bytes)}`,
    problem.message,
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", class: "primary", onclick: () => store(pinned) }, "Store it without a preview"),
      hub.splits.length > 1 ? anotherSplit(pinned, hub.splits) : null,
    ),
  );
}

/** @param {Wanted} wanted @param {"refuse" | "store"} ifKnown */
async function store(wanted, ifKnown = "refuse") {
  const named = { name: nameOf(wanted) };
  result().replaceChildren();
  try {
    showStored(await fetched("/datasets", { ...wanted, if_known: ifKnown }, `${named.name}: looking it up…`));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.more.dataset_id) showKnown(named, problem.more.dataset_id, () => store(wanted, "store"));
    else showFailed(named, problem);
  }
}

/** A failure whose cause is the person's own wish is not one. */
function showFailed(named, problem) {
  if (problem.status === 409) notice("", `${named.name}: canceled`, "Nothing was stored.");
  else showFailure(named, problem);
}

/** The answer to a request that the server may take minutes for; its progress is shown, and it can be canceled. */
async function fetched(path, body, status) {
  const key = newKey();
  const zone = $("[data-drop]");
  const bar = $("progress", zone);
  const cancel = $("[data-drop-cancel]", zone);
  bar.removeAttribute("value");
  bar.hidden = cancel.hidden = false;
  cancel.onclick = () => api(`/datasets/progress/${key}`, { method: "DELETE" }).catch(() => {});
  showStatus(status);
  const polling = setInterval(() => showProgress({ name: nameOf(body) }, key, bar), POLL_MS);
  try {
    return await api(`${path}?progress=${key}`, { method: "POST", body });
  } finally {
    clearInterval(polling);
    settle();
  }
}
