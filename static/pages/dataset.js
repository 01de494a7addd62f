// A dataset's page: lengths, pairs page by page, deletion.

import { Chart } from "../charts/chart.js";
import { lengthsFigure } from "../figures/scores.js";
import { api, pageData } from "../lib/api.js";
import { $, confirmed, h, problemNotice } from "../lib/dom.js";
import { count } from "../lib/format.js";
import { RELATIONS } from "../lib/issues.js";
import { newestOnly } from "../lib/newest.js";
import { pairView } from "../lib/pair-view.js";

const PAGE = 10;
// A response may have megabytes: so many characters of it are shown until the whole is requested.
const CLIP = 8000;
const dataset = pageData();
const characters = dataset.statistics.characters;

new Chart($("#lengths"), {
  title: "Lengths",
  why:
    "How long the prompts and both responses are. Responses that differ much in length are a confounder of " +
    "preference training.",
  name: `dataset-${dataset.id}-lengths`,
  figure: (colors) => lengthsFigure(characters, colors),
  describe: () =>
    ["prompt", "preferred", "dispreferred"]
      .map((name) => `${name}: median ${characters?.[name]?.median} characters`)
      .join(", "),
  csv: () =>
    Object.fromEntries(
      ["prompt", "preferred", "dispreferred"].flatMap((name) => {
        const { start, width, counts } = characters[name].histogram;
        return [
          [`${name}_from_characters`, counts.map((_, i) => start + i * width)],
          [`${name}_pairs`, counts],
        ];
      }),
    ),
}).redraw();

const issueOf = () => $("[data-issue]")?.value ?? "";
let offset = issueOf() ? 0 : Math.floor(dataset.first_pair / PAGE) * PAGE;

const newest = newestOnly();

async function show() {
  const host = $("[data-pairs]");
  const issue = issueOf();
  try {
    const filter = issue ? `&issue=${issue}` : "";
    const address = `/datasets/${dataset.id}/pairs?offset=${offset}&limit=${PAGE}&clip=${CLIP}${filter}`;
    const page = await newest(api(address));
    if (!page) return;
    host.replaceChildren(...page.items.map(shown));
    const to = offset + page.items.length;
    const what = issue ? dataset.issues[issue].toLowerCase() : "pairs";
    $("[data-pager]").replaceChildren(
      h(
        "span",
        {},
        issue
          ? `${count(offset + 1)} to ${count(to)} of ${count(page.total)} ${what}`
          : `Pairs ${count(offset)} to ${count(to - 1)} of ${count(page.total)}`,
      ),
      h(
        "span",
        { class: "actions" },
        h("button", { type: "button", disabled: offset === 0, onclick: () => go(offset - PAGE) }, "Previous"),
        h("button", { type: "button", disabled: to >= page.total, onclick: () => go(offset + PAGE) }, "Next"),
      ),
    );
  } catch (problem) {
    host.replaceChildren(problemNotice(problem));
  }
}

function shown(pair) {
  const other =
    typeof pair.other === "number"
      ? h(
          "a",
          { href: `?pair=${pair.other}#pair-${pair.other}` },
          `${RELATIONS[issueOf()] ?? "repeats"} pair ${pair.other}`,
        )
      : null;
  const detail = pair.detail ? h("span", {}, pair.detail) : null;
  const rest = pair.is_clipped
    ? h(
        "button",
        { type: "button", class: "icon", onclick: (event) => showWhole(pair, event.target) },
        "Show all of its text",
      )
    : null;
  const look = h(
    "a",
    { href: `/datasets/${dataset.id}/new?kind=preflight&pairs=${pair.pair}` },
    "Pre-flight this pair",
  );
  return pairView(pair, other, detail, rest, look);
}

async function showWhole(pair, button) {
  button.disabled = true;
  try {
    const { items } = await api(`/datasets/${dataset.id}/pairs?offset=${pair.pair}&limit=1`);
    $(`#pair-${pair.pair}`).replaceWith(shown({ ...items[0], other: pair.other, detail: pair.detail }));
  } catch (problem) {
    button.replaceWith(problemNotice(problem));
  }
}

async function go(to, pair) {
  offset = Math.max(0, to);
  const address = new URL(location.href);
  address.searchParams.delete("issue");
  address.searchParams.delete("pair");
  if (issueOf()) address.searchParams.set("issue", issueOf());
  else address.searchParams.set("pair", pair ?? offset);
  history.replaceState(null, "", address);
  await show();
  $("#pairs").scrollIntoView({ block: "start" });
}

$("[data-issue]")?.addEventListener("change", () => go(0));

$("[data-goto]").addEventListener("change", (event) => {
  const pair = Math.min(Math.max(0, Number(event.target.value) || 0), dataset.pairs - 1);
  if (issueOf()) $("[data-issue]").value = "";
  go(Math.floor(pair / PAGE) * PAGE, pair).then(() => $(`#pair-${pair}`)?.scrollIntoView({ block: "center" }));
});

$("[data-delete]").addEventListener("click", async () => {
  const isSure = await confirmed({
    title: `Delete “${dataset.name}”?`,
    text: `Its ${count(dataset.pairs)} pairs and flags are deleted. The file that you uploaded is not touched.`,
    action: "Delete the dataset",
  });
  if (!isSure) return;
  try {
    await api(`/datasets/${dataset.id}`, { method: "DELETE" });
    location.assign("/datasets");
  } catch (problem) {
    $("[data-problem]").replaceChildren(problemNotice(problem));
  }
});

await show();
if (dataset.first_pair) $(`#pair-${dataset.first_pair}`)?.scrollIntoView({ block: "center" });
