// A dataset's page: lengths, pairs page by page, deletion.

import { api, pageData } from "./api.js";
import { Chart } from "./chart.js";
import { $, confirmed, h, problemNotice } from "./dom.js";
import { lengthsFigure } from "./figures/scores.js";
import { count } from "./format.js";
import { pairView } from "./pair-view.js";

const PAGE = 10;
const dataset = pageData();
const characters = dataset.statistics.characters;

new Chart($("#lengths"), {
  title: "Lengths",
  why: "How long the prompts and both responses are. Responses that differ much in length are a confounder of preference training.",
  name: `dataset-${dataset.id}-lengths`,
  figure: (colors) => lengthsFigure(characters, colors),
  describe: () => ["prompt", "preferred", "dispreferred"].map((name) => `${name}: median ${characters?.[name]?.median} characters`).join(", "),
  csv: () => Object.fromEntries(["prompt", "preferred", "dispreferred"].flatMap((name) => {
    const { start, width, counts } = characters[name].histogram;
    return [[`${name}_from_characters`, counts.map((_, i) => start + i * width)], [`${name}_pairs`, counts]];
  })),
}).redraw();

let offset = Math.floor(dataset.first_pair / PAGE) * PAGE;

async function show() {
  const host = $("[data-pairs]");
  try {
    const page = await api(`/datasets/${dataset.id}/pairs?offset=${offset}&limit=${PAGE}`);
    host.replaceChildren(...page.items.map((pair) => pairView(pair)));
    const to = offset + page.items.length;
    $("[data-pager]").replaceChildren(
      h("span", {}, `Pairs ${count(offset)} to ${count(to - 1)} of ${count(page.total)}`),
      h("span", { class: "actions" },
        h("button", { type: "button", disabled: offset === 0, onclick: () => go(offset - PAGE) }, "Previous"),
        h("button", { type: "button", disabled: to >= page.total, onclick: () => go(offset + PAGE) }, "Next")),
    );
  } catch (problem) {
    host.replaceChildren(problemNotice(problem));
  }
}

async function go(to, pair) {
  offset = Math.max(0, to);
  const address = new URL(location);
  address.searchParams.set("pair", pair ?? offset);
  history.replaceState(null, "", address);
  await show();
  $("#pairs").scrollIntoView({ block: "start" });
}

$("[data-goto]").addEventListener("change", (event) => {
  const pair = Math.min(Math.max(0, Number(event.target.value) || 0), dataset.pairs - 1);
  go(Math.floor(pair / PAGE) * PAGE, pair).then(() => $(`#pair-${pair}`)?.scrollIntoView({ block: "center" }));
});

$("[data-delete]").addEventListener("click", async () => {
  const isSure = await confirmed({ title: `Delete “${dataset.name}”?`, text: `Its ${count(dataset.pairs)} pairs and flags are deleted. The file that you uploaded is not touched.`, action: "Delete the dataset" });
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
