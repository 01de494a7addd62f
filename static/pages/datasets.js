// Bringing in data: a dropped or chosen file with its upload's progress, or a sample.

import { API, api, Problem } from "../lib/api.js";
import { $, $$, h, problemNotice } from "../lib/dom.js";
import { bytes, count, duration, percent } from "../lib/format.js";
import { previewView, rejectedRows } from "./datasets/preview.js";

// A few rows tell what a file is; a Parquet file tells it at its end only.
const FIRST_PART = 2 << 20;
const WHOLE_TABLE = 64 << 20;

for (const button of $$("[data-sample]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const dataset = await api(`/samples/${encodeURIComponent(button.dataset.sample)}`, { method: "POST" });
      location.assign(`/datasets/${dataset.id}`);
    } catch (problem) {
      button.disabled = false;
      (button.closest(".card, .actions") ?? document.body).append(problemNotice(problem));
    }
  });
}

const zone = $("[data-drop]");
if (zone) {
  const input = $("[data-drop-input]", zone);
  input.addEventListener("change", () => input.files.length && look(input.files[0]));
  $("[data-drop-label]", zone).addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      input.click();
    }
  });
  // A file that misses the zone would otherwise replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length && $("[data-drop-cancel]", zone).hidden) look(event.dataTransfer.files[0]);
  });
}

/** Show what the file's beginning holds; nothing is stored until that is confirmed. */
async function look(file, mapping) {
  say(`${file.name}: looking at its first rows…`);
  $("[data-drop-input]", zone).value = "";
  let seen;
  try {
    seen = await preview(file, mapping);
  } catch (problem) {
    settle();
    // Of a file's beginning alone, less can be told than of the whole.
    const actions = problem.isPartial
      ? h(
          "div",
          { class: "actions" },
          h("button", { type: "button", onclick: () => upload(file, { mapping }) }, "Read the whole file"),
        )
      : null;
    fail(file, problem, actions);
    return;
  }
  settle();
  const card = previewView(file, seen, {
    store: (chosen) => upload(file, { mapping: chosen }),
    lookAgain: (chosen) => look(file, chosen),
    cancel: () => result().replaceChildren(),
  });
  result().replaceChildren(card);
  (mapping ? $("select", card) : $("button.primary", card))?.focus();
}

/** Send the file, or as much of its beginning as tells what it is. */
async function preview(file, mapping) {
  const magic = new TextDecoder("latin1").decode(await file.slice(0, 4).arrayBuffer());
  const limit = magic === "PAR1" ? WHOLE_TABLE : FIRST_PART;
  const isWhole = file.size <= limit;
  const form = new FormData();
  form.append("file", isWhole ? file : file.slice(0, limit), file.name);
  form.append("whole", isWhole);
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

/** Store the file. Its bytes are sent first, then the server reads its rows; both are shown. */
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
    say(
      `${file.name}: sending ${bytes(event.loaded)} of ${bytes(event.total)} (${percent(event.loaded / event.total)})`,
    );
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    say(`${file.name}: reading the rows…`);
    polling = setInterval(() => tellProgress(file, key, bar), 400);
  });
  request.addEventListener("loadend", () => {
    clearInterval(polling);
    settle();
  });
  request.addEventListener("abort", () => notice("", `${file.name}: called off`, "Nothing was stored."));
  request.addEventListener("error", () =>
    fail(
      file,
      new Problem({ title: "The upload broke off", detail: "The server does not answer. Nothing was stored." }),
    ),
  );
  request.addEventListener("load", () => {
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      /* said below */
    }
    if (request.status === 409 && answer.dataset_id) known(file, answer.dataset_id, mapping);
    else if (request.status >= 400) fail(file, new Problem(answer));
    else if (answer.rejected) understood(answer);
    else location.assign(`/datasets/${answer.id}`);
  });
  bar.hidden = false;
  cancel.hidden = false;
  cancel.onclick = () => (polling ? fetch(`${API}/datasets/progress/${key}`, { method: "DELETE" }) : request.abort());
  request.send(form);
}

async function tellProgress(file, key, bar) {
  const response = await fetch(`${API}/datasets/progress/${key}`).catch(() => null);
  if (!response?.ok || bar.hidden) return;
  const now = await response.json();
  if (now.phase === "reading" && now.bytes_total) bar.value = now.bytes_done / now.bytes_total;
  else bar.removeAttribute("value");
  const said =
    {
      reading: `reading the rows, ${count(now.pairs)} pairs so far${now.rejected ? `, ${count(now.rejected)} rejected` : ""}`,
      checking: "looking for repeated and contradicting pairs",
      storing: "storing",
    }[now.phase] ?? "reading the rows";
  const left = now.eta_seconds > 1 ? `, ${duration(now.eta_seconds)} left` : "";
  say(`${file.name}: ${said}${left}…`);
}

const result = () => $("[data-drop-result]");
const say = (text) => {
  $("[data-drop-status]", zone).textContent = text;
};

function settle() {
  $("progress", zone).hidden = true;
  $("[data-drop-cancel]", zone).hidden = true;
  say("");
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

function fail(file, problem, actions = null) {
  const rows = problem.errors.filter((item) => item.row);
  notice("bad", `${file.name}: ${problem.title}`, problem.message, rows.length ? rejectedRows(rows) : null, actions);
}

function known(file, id, mapping) {
  notice(
    "warn",
    `${file.name} is stored already`,
    `Dataset ${id} was made of this very file. Nothing was stored this time.`,
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: `/datasets/${id}` }, "Open that dataset"),
      h("button", { type: "button", onclick: () => upload(file, { mapping, ifKnown: "store" }) }, "Store it once more"),
    ),
  );
}

function understood(dataset) {
  notice(
    "warn",
    `${dataset.name}: ${count(dataset.pairs)} pair${dataset.pairs === 1 ? "" : "s"} stored, ${count(dataset.rejected)} row${dataset.rejected === 1 ? "" : "s"} rejected`,
    `Read as ${dataset.statistics.form ?? dataset.format}.`,
    rejectedRows(dataset.errors),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: `/datasets/${dataset.id}` }, "Open the dataset"),
    ),
  );
}
