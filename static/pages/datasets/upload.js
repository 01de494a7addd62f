// Uploading a dataset: a preview of the file's beginning, the upload with its progress, and how it ended.

import { API, Problem } from "../../lib/api.js";
import { $, h } from "../../lib/dom.js";
import { bytes, count, duration, percent } from "../../lib/format.js";
import { memberChoice, previewView, rejectedRows } from "./preview.js";

// The first rows are enough to recognize most formats. Parquet and archives say what they hold at their end: a file
// whose first part cannot be read is sent as a whole, up to this size.
const FIRST_PART = 2 << 20;
const WHOLE_FILE = 64 << 20;
const POLL_MS = 400;

/** The zone of the page into which a file is dropped. */
const zone = $("[data-drop]");

/** @typedef {import("./preview.js").How} How a file is read */

/**
 * Show what the file's beginning holds; nothing is stored until that is confirmed.
 *
 * @param {File} file
 * @param {How} [how]
 */
export async function showPreview(file, how = {}) {
  showStatus(`${file.name}: reading its first rows…`);
  $("[data-drop-input]", zone).value = "";
  let seen;
  try {
    seen = await preview(file, how);
  } catch (problem) {
    settle();
    // The whole file may be readable where its beginning alone is not.
    const actions = problem.isPartial
      ? h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: () => upload(file, how) }, "Read the whole file"),
        )
      : null;
    showFailure(file, problem, actions, otherMember(file, how));
    return;
  }
  settle();
  const card = previewView(file, seen, how, {
    store: (chosen) => upload(file, chosen),
    previewAgain: (chosen) => showPreview(file, chosen),
    cancel: () => result().replaceChildren(),
  });
  result().replaceChildren(card);
  (how.mapping || how.pairing ? $("select", card) : $("button.primary", card))?.focus();
}

/** A key under which the server reports the progress of a request. */
export const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Send the first part of the file; the whole one where that is not enough to recognize it. */
async function preview(file, how) {
  try {
    return await previewPart(file, FIRST_PART, how);
  } catch (problem) {
    if (!problem.isPartial || file.size > WHOLE_FILE) throw problem;
    return previewPart(file, WHOLE_FILE, how);
  }
}

async function previewPart(file, limit, how) {
  const isWhole = file.size <= limit;
  const form = new FormData();
  form.append("file", isWhole ? file : file.slice(0, limit), file.name);
  form.append("whole", String(isWhole));
  appendHow(form, how);
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

/** @param {FormData} form @param {How} how */
function appendHow(form, { mapping, pairing, member }) {
  if (mapping) form.append("mapping", JSON.stringify(mapping));
  if (pairing) form.append("pairing", pairing);
  if (member) form.append("member", member);
}

/**
 * Store the file. Its bytes are sent first, then the server reads its rows; the progress of both is shown.
 *
 * @param {File} file
 * @param {How} how
 * @param {"refuse" | "store"} ifKnown what to do if the same file is stored
 */
function upload(file, how, ifKnown = "refuse") {
  const key = newKey();
  const bar = $("progress", zone);
  const cancel = $("[data-drop-cancel]", zone);
  const form = new FormData();
  form.append("file", file);
  form.append("if_known", ifKnown);
  appendHow(form, how);
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
    if (request.status === 409 && answer.dataset_id) {
      showKnown(file, answer.dataset_id, () => upload(file, how, "store"));
    } else if (request.status >= 400) showFailure(file, new Problem(answer), null, otherMember(file, how));
    else showStored(answer);
  });
  bar.hidden = false;
  cancel.hidden = false;
  cancel.onclick = () => (polling ? fetch(`${API}/datasets/progress/${key}`, { method: "DELETE" }) : request.abort());
  request.send(form);
}

/** Show the progress that the server reports for a key. @param {{name: string}} file */
export async function showProgress(file, key, bar) {
  const response = await fetch(`${API}/datasets/progress/${key}`).catch(() => null);
  if (!response?.ok || bar.hidden) return;
  const now = await response.json();
  if (["downloading", "reading"].includes(now.phase) && now.bytes_total) bar.value = now.bytes_done / now.bytes_total;
  else bar.removeAttribute("value");
  const rejected = now.rejected ? `, ${count(now.rejected)} rejected` : "";
  const phase =
    {
      downloading: `downloading ${bytes(now.bytes_done)} of ${bytes(now.bytes_total)}`,
      reading: `reading the rows, ${count(now.pairs)} pairs so far${rejected}`,
      checking: "looking for repeated and contradicting pairs",
      storing: "storing",
    }[now.phase] ?? "reading the rows";
  const left = now.eta_seconds > 1 ? `, ${duration(now.eta_seconds)} left` : "";
  showStatus(`${file.name}: ${phase}${left}…`);
}

export const result = () => $("[data-drop-result]");
export const showStatus = (text) => {
  $("[data-drop-status]", zone).textContent = text;
};

export function settle() {
  $("progress", zone).hidden = true;
  $("[data-drop-cancel]", zone).hidden = true;
  showStatus("");
}

export function notice(kind, title, ...content) {
  result().replaceChildren(
    h(
      "div",
      { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" },
      h("strong", {}, title),
      content.map((item) => (typeof item === "string" ? h("p", {}, item) : item)),
    ),
  );
}

/** @param {File} file @param {How} how @returns {(member: string) => void} looks at a table of an archive */
const otherMember = (file, how) => (member) => showPreview(file, { ...how, member });

/**
 * @param {{name: string}} file
 * @param {any} problem
 * @param {Node | null} actions
 * @param {((member: string) => void) | null} choose looks at one of several tables
 */
export function showFailure(file, problem, actions = null, choose = null) {
  const members = problem.errors.filter((item) => item.field === "member" && item.snippet);
  if (members.length && choose) {
    const why = "The file holds several tables, and one is read at a time.";
    notice("warn", `${file.name}: which table?`, why, memberChoice(members, choose));
    return;
  }
  const rows = problem.errors.filter((item) => item.row);
  notice("bad", `${file.name}: ${problem.title}`, problem.message, rows.length ? rejectedRows(rows) : null, actions);
}

/** @param {{name: string}} file @param {number} id @param {() => void} again stores it once more */
export function showKnown(file, id, again) {
  notice(
    "warn",
    `${file.name} is stored already`,
    `Dataset ${id} was made from the same data. Nothing was stored this time.`,
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: `/datasets/${id}` }, "Open that dataset"),
      h("button", { type: "button", onclick: again }, "Store it again"),
    ),
  );
}

/** "1 pair", "2 pairs" @param {number} number @param {string} noun */
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Open a dataset that was stored, or list what was rejected first. */
export function showStored(dataset) {
  if (dataset.rejected) showRejected(dataset);
  else location.assign(`/datasets/${dataset.id}`);
}

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
