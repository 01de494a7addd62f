// Uploading a dataset: a preview of the file's beginning, the upload with its progress, and how it ended.

import { API, Problem } from "../../lib/api.js";
import { $, h } from "../../lib/dom.js";
import { bytes, count, duration, percent } from "../../lib/format.js";
import { previewView, rejectedRows } from "./preview.js";

// The first rows are enough to recognize a format, except for Parquet: its schema is at the end of the file.
const FIRST_PART = 2 << 20;
const WHOLE_TABLE = 64 << 20;
const POLL_MS = 400;

/** The zone of the page into which a file is dropped. */
const zone = $("[data-drop]");

/** @typedef {Record<string, string>} Mapping role → column */

/**
 * Show what the file's beginning holds; nothing is stored until that is confirmed.
 *
 * @param {File} file
 * @param {Mapping} [mapping]
 */
export async function showPreview(file, mapping) {
  showStatus(`${file.name}: reading its first rows…`);
  $("[data-drop-input]", zone).value = "";
  let seen;
  try {
    seen = await preview(file, mapping);
  } catch (problem) {
    settle();
    // The whole file may be readable where its beginning alone is not.
    const actions = problem.isPartial
      ? h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: () => upload(file, { mapping }) }, "Read the whole file"),
        )
      : null;
    showFailure(file, problem, actions);
    return;
  }
  settle();
  const card = previewView(file, seen, {
    store: (chosen) => upload(file, { mapping: chosen }),
    previewAgain: (chosen) => showPreview(file, chosen),
    cancel: () => result().replaceChildren(),
  });
  result().replaceChildren(card);
  (mapping ? $("select", card) : $("button.primary", card))?.focus();
}

/** Send the file, or the first part that is enough to recognize it. */
async function preview(file, mapping) {
  const magic = new TextDecoder("latin1").decode(await file.slice(0, 4).arrayBuffer());
  const limit = magic === "PAR1" ? WHOLE_TABLE : FIRST_PART;
  const isWhole = file.size <= limit;
  const form = new FormData();
  form.append("file", isWhole ? file : file.slice(0, limit), file.name);
  form.append("whole", String(isWhole));
  if (mapping) form.append("mapping", JSON.stringify(mapping));
  let response;
  try {
    response = await fetch(`${API}/datasets/preview`, { method: "POST", body: form });
  } catch {
    throw new Problem({ title: "No answer", detail: "The server does not answer, or the file cannot be read." });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Problem(answer), { isPartial: !isWhole });
  return answer;
}

/**
 * Store the file. Its bytes are sent first, then the server reads its rows; the progress of both is shown.
 *
 * @param {File} file
 * @param {{mapping?: Mapping, ifKnown?: "refuse" | "store"}} options ifKnown: what to do if the same file is stored
 */
function upload(file, { mapping, ifKnown = "refuse" } = {}) {
  const key = [...crypto.getRandomValues(new Uint8Array(12))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
  const bar = $("progress", zone);
  const cancel = $("[data-drop-cancel]", zone);
  const form = new FormData();
  form.append("file", file);
  form.append("if_known", ifKnown);
  if (mapping) form.append("mapping", JSON.stringify(mapping));
  result().replaceChildren();

  const request = new XMLHttpRequest();
  let polling;
  request.open("POST", `${API}/datasets?progress=${key}`);
  request.upload.addEventListener("progress", (event) => {
    bar.value = event.loaded / event.total;
    showStatus(
      `${file.name}: sending ${bytes(event.loaded)} of ${bytes(event.total)} (${percent(event.loaded / event.total)})`,
    );
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    showStatus(`${file.name}: reading the rows…`);
    polling = setInterval(() => showProgress(file, key, bar), POLL_MS);
  });
  request.addEventListener("loadend", () => {
    clearInterval(polling);
    settle();
  });
  request.addEventListener("abort", () => notice("", `${file.name}: canceled`, "Nothing was stored."));
  request.addEventListener("error", () =>
    showFailure(
      file,
      new Problem({ title: "The upload was interrupted", detail: "The server does not answer. Nothing was stored." }),
    ),
  );
  request.addEventListener("load", () => {
    /** @type {any} */
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      /* reported below */
    }
    if (request.status === 409 && answer.dataset_id) showKnown(file, answer.dataset_id, mapping);
    else if (request.status >= 400) showFailure(file, new Problem(answer));
    else if (answer.rejected) showRejected(answer);
    else location.assign(`/datasets/${answer.id}`);
  });
  bar.hidden = false;
  cancel.hidden = false;
  cancel.onclick = () => (polling ? fetch(`${API}/datasets/progress/${key}`, { method: "DELETE" }) : request.abort());
  request.send(form);
}

async function showProgress(file, key, bar) {
  const response = await fetch(`${API}/datasets/progress/${key}`).catch(() => null);
  if (!response?.ok || bar.hidden) return;
  const now = await response.json();
  if (now.phase === "reading" && now.bytes_total) bar.value = now.bytes_done / now.bytes_total;
  else bar.removeAttribute("value");
  const rejected = now.rejected ? `, ${count(now.rejected)} rejected` : "";
  const phase =
    {
      reading: `reading the rows, ${count(now.pairs)} pairs so far${rejected}`,
      checking: "looking for repeated and contradicting pairs",
      storing: "storing",
    }[now.phase] ?? "reading the rows";
  const left = now.eta_seconds > 1 ? `, ${duration(now.eta_seconds)} left` : "";
  showStatus(`${file.name}: ${phase}${left}…`);
}

const result = () => $("[data-drop-result]");
const showStatus = (text) => {
  $("[data-drop-status]", zone).textContent = text;
};

function settle() {
  $("progress", zone).hidden = true;
  $("[data-drop-cancel]", zone).hidden = true;
  showStatus("");
}

function notice(kind, title, ...content) {
  result().replaceChildren(
    h(
      "div",
      { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" },
      h("strong", {}, title),
      content.map((item) => (typeof item === "string" ? h("p", {}, item) : item)),
    ),
  );
}

function showFailure(file, problem, actions = null) {
  const rows = problem.errors.filter((item) => item.row);
  notice("bad", `${file.name}: ${problem.title}`, problem.message, rows.length ? rejectedRows(rows) : null, actions);
}

function showKnown(file, id, mapping) {
  notice(
    "warn",
    `${file.name} is stored already`,
    `Dataset ${id} was made from the same file. Nothing was stored this time.`,
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: `/datasets/${id}` }, "Open that dataset"),
      h("button", { type: "button", onclick: () => upload(file, { mapping, ifKnown: "store" }) }, "Store it again"),
    ),
  );
}

/** "1 pair", "2 pairs" @param {number} number @param {string} noun */
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function showRejected(dataset) {
  notice(
    "warn",
    `${dataset.name}: ${counted(dataset.pairs, "pair")} stored, ${counted(dataset.rejected, "row")} rejected`,
    `Read as ${dataset.statistics.form ?? dataset.format}.`,
    rejectedRows(dataset.errors),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: `/datasets/${dataset.id}` }, "Open the dataset"),
    ),
  );
}
