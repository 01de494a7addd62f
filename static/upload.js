// Bringing in data: a dropped or chosen file with its upload's progress, or a sample.

import { API, api, Problem } from "./api.js";
import { $, $$, h, problemNotice } from "./dom.js";
import { bytes, count, percent } from "./format.js";

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
  input.addEventListener("change", () => input.files.length && upload(input.files[0]));
  $("[data-drop-label]", zone).addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); input.click(); }
  });
  // A file that misses the zone would otherwise replace the page.
  addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}

function upload(file) {
  const bar = $("progress", zone);
  const status = $("[data-drop-status]", zone);
  const result = $("[data-drop-result]");
  result.replaceChildren();
  const form = new FormData();
  form.append("file", file);
  const request = new XMLHttpRequest();
  request.open("POST", `${API}/datasets`);
  request.upload.addEventListener("progress", (event) => {
    bar.hidden = false;
    bar.value = event.loaded / event.total;
    status.textContent = event.loaded < event.total
      ? `${file.name}: ${bytes(event.loaded)} of ${bytes(event.total)} (${percent(event.loaded / event.total)})`
      : `${file.name}: reading the rows…`;
  });
  request.addEventListener("error", () => fail(new Problem({ title: "The upload broke off", detail: "The server does not answer. Nothing was stored." })));
  request.addEventListener("load", () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* said below */ }
    if (request.status >= 400) fail(new Problem(answer));
    else if (answer.rejected) understood(answer);
    else location.assign(`/datasets/${answer.id}`);
  });
  request.send(form);

  function settle() {
    bar.hidden = true;
    status.textContent = "";
    $("[data-drop-input]", zone).value = "";
  }

  function fail(problem) {
    settle();
    const rows = problem.errors.filter((item) => item.row);
    const notice = h("div", { class: "notice bad", role: "alert" }, h("strong", {}, `${file.name}: ${problem.title}`), h("p", {}, problem.message));
    if (rows.length) notice.append(rejectedRows(rows));
    result.replaceChildren(notice);
  }

  function understood(dataset) {
    settle();
    result.replaceChildren(h("div", { class: "notice warn", role: "status" },
      h("strong", {}, `${dataset.name}: ${count(dataset.pairs)} pair${dataset.pairs === 1 ? "" : "s"} stored, ${count(dataset.rejected)} row${dataset.rejected === 1 ? "" : "s"} rejected`),
      h("p", {}, `Read as ${dataset.statistics.form ?? dataset.format}.`),
      rejectedRows(dataset.errors),
      h("div", { class: "actions" }, h("a", { class: "button primary", href: `/datasets/${dataset.id}` }, "Open the dataset"))));
  }
}

function rejectedRows(errors) {
  return h("div", { class: "table-wrap" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "num" }, "Row"), h("th", {}, "Column"), h("th", {}, "Reason"), h("th", { class: "narrow-hide" }, "How it begins"))),
    h("tbody", {}, errors.slice(0, 100).map((item) => h("tr", {},
      h("td", { class: "num" }, item.row ? count(item.row) : ""),
      h("td", {}, h("code", {}, item.field ?? "")),
      h("td", {}, item.message),
      h("td", { class: "narrow-hide" }, h("code", { class: "clip" }, item.snippet ?? "")))))));
}
