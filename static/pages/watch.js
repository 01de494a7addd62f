// "Watch a run of your own": the lines for each trainer, a token for the recorder, and the first record as it arrives.

import { api, pageData } from "../lib/api.js";
import { $, $$, confirmed, h, problemNotice, toast } from "../lib/dom.js";
import { count, number } from "../lib/format.js";
import { follow } from "../lib/live.js";

const POLL_MS = 2000;

let { newest } = pageData(); // id of the newest external run before this one

const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));

// --- the lines -------------------------------------------------------------------------------

$("[data-trainers]").addEventListener("click", (event) => {
  const chosen = event.target.closest("button");
  if (!chosen) return;
  for (const button of $$("[data-trainers] button")) button.setAttribute("aria-pressed", String(button === chosen));
  for (const part of $$("[data-trainer]")) part.hidden = part.dataset.trainer !== chosen.value;
});

document.addEventListener("click", async (event) => {
  const button = /** @type {Element} */ (event.target).closest("[data-copy]");
  if (!button) return;
  const code = $("[data-code]", button.parentElement);
  try {
    await navigator.clipboard.writeText(code.textContent);
    toast("Copied.");
  } catch {
    // The clipboard is for secure pages: select the text, so that one key copies it.
    getSelection()?.selectAllChildren(code);
    toast("Selected: copy it with Ctrl+C.");
  }
});

// --- tokens ----------------------------------------------------------------------------------

$("[data-token-form]")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = $("button", form);
  button.disabled = true;
  try {
    const made = await api("/recorder-tokens", { method: "POST", body: { name: form.elements.name.value } });
    const code = $("[data-environment]");
    code.textContent = code.textContent.replace(/CHESBOARD_TOKEN=.*/, `CHESBOARD_TOKEN=${made.token}`);
    $("[data-token-status]").textContent = "The token stands above. It will not be shown again.";
  } catch (problem) {
    showProblem(problem);
  }
  button.disabled = false;
});

for (const button of $$("[data-delete-token]")) {
  button.addEventListener("click", async () => {
    const isSure = await confirmed({
      title: "Delete this token?",
      action: "Delete the token",
      text: "Trainers that use it can send nothing more. What they recorded stays.",
    });
    if (!isSure) return;
    try {
      await api(`/recorder-tokens/${button.dataset.deleteToken}`, { method: "DELETE" });
      button.closest("tr").remove();
    } catch (problem) {
      showProblem(problem);
    }
  });
}

// --- the first record ------------------------------------------------------------------------

function say(run, text, status) {
  $("[data-arrival-status]").replaceChildren(
    h("span", { class: `chip ${status}` }, status),
    " ",
    h("a", { href: `/runs/${run.id}` }, run.name),
    h("span", { class: "quiet" }, ` ${text}`),
  );
}

function watch(run) {
  let { status } = run;
  say(run, "has begun; its first record is on the way.", status);
  const stop = follow(run.id, 0, {
    status: (now) => {
      status = now.status;
    },
    metric: (row) => say(run, `recorded step ${count(row.step)}, loss ${number(row.loss)}.`, status),
    probe: (row) => say(run, `recorded probe ${row.pair} at step ${count(row.step)}.`, status),
    end: () => stop(),
  });
  $("[data-arrival]").append(h("p", {}, h("a", { class: "button primary", href: `/runs/${run.id}` }, "Open its page")));
}

async function poll() {
  try {
    const { items } = await api("/runs?kind=external&limit=1");
    if (items.length && items[0].id > newest) {
      newest = items[0].id;
      watch(items[0]);
      return;
    }
  } catch {
    // The next poll asks again.
  }
  setTimeout(poll, POLL_MS);
}
poll();
