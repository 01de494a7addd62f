// The preview of a file before it is stored: what its columns were recognized as, and the form that corrects it.

import { dataTable, h, inCode } from "../../lib/dom.js";
import { count } from "../../lib/format.js";
import { promptView, side, text } from "../../lib/pair-view.js";
import { mappingForm } from "./mapping.js";
import { pairingForm } from "./pairing.js";

/** How to read a file: a mapping of its columns, a rule that makes pairs of several responses, a table of an archive.
 * @typedef {{mapping?: Record<string, string>, pairing?: string, member?: string}} How */

/**
 * @param {{name: string}} file
 * @param {any} seen the response of /datasets/preview
 * @param {How} how it was read
 * @param {{
 *   store: (how: How) => void, previewAgain: (how: How) => void, cancel: () => void,
 * }} actions of the buttons
 */
export function previewView(file, seen, how, { store, previewAgain, cancel }) {
  const isUsable = seen.usable > 0;
  const title = isUsable ? `Read as ${seen.form}` : "Which column holds what?";
  return h(
    "section",
    { class: "card preview", "aria-label": `What ${file.name} holds` },
    h("div", { class: "card-head" }, h("h2", {}, `${file.name}: ${title}`), h("span", { class: "tag" }, kindOf(seen))),
    h("p", { class: "quiet" }, summary(seen)),
    seen.notes.map((note) => h("p", {}, inCode(note))),
    seen.pairings.length ? pairingForm(seen, (pairing) => previewAgain({ ...how, pairing })) : null,
    seen.reasons.length
      ? h(
          "div",
          { class: "notice warn" },
          h("strong", {}, isUsable ? "Please check whether this is right" : "Nothing can be read this way"),
          h(
            "ul",
            {},
            seen.reasons.map((reason) => h("li", {}, inCode(reason))),
          ),
        )
      : null,
    seen.errors.length
      ? h(
          "details",
          {},
          h("summary", {}, `${count(seen.rejected)} of ${count(seen.rows)} rows cannot be used`),
          rejectedRows(seen.errors),
        )
      : null,
    seen.pairs.length
      ? h("details", { open: true }, h("summary", {}, "The first pairs"), seen.pairs.slice(0, 2).map(pairPreview))
      : null,
    h(
      "details",
      { open: seen.confidence !== "sure" || seen.needs_mapping },
      h("summary", {}, `Columns (${count(seen.columns.length)})`),
      columnsTable(seen.columns),
      mappingForm(seen, (mapping) => previewAgain({ ...how, mapping })),
    ),
    h(
      "div",
      { class: "actions preview-actions" },
      h(
        "button",
        {
          type: "button",
          class: "primary",
          disabled: !isUsable,
          onclick: () => store({ ...how, mapping: how.mapping ?? (seen.needs_mapping ? seen.mapping : undefined) }),
        },
        "Store this dataset",
      ),
      h("button", { type: "button", onclick: cancel }, "Not this file"),
    ),
  );
}

const KINDS = { jsonl: "JSONL", json: "JSON", csv: "CSV", parquet: "Parquet", arrow: "Arrow", orc: "ORC" };
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function kindOf(seen) {
  if (seen.member) return `${KINDS[seen.kind]}, ${seen.member}`;
  return KINDS[seen.kind] + (seen.is_packed ? ", compressed" : "");
}

function summary(seen) {
  const rows = seen.rows === 1 ? "1 row" : `${count(seen.rows)} rows`;
  const of = seen.is_whole ? `The file has ${rows}` : `Of the first ${rows}`;
  // A row may make several pairs, and a pair may be made of two rows.
  const isRowByRow = seen.usable + seen.rejected === seen.rows;
  const use = isRowByRow ? `${count(seen.usable)} can be used` : `${counted(seen.usable, "pair")} can be made of them`;
  return `${of}${seen.is_whole ? ";" : ","} ${use}. Nothing is stored yet.`;
}

function pairPreview(pair) {
  return h(
    "article",
    { class: "pair" },
    h("div", { class: "pair-head" }, `row ${count(pair.row)}`),
    promptView(pair.prompt),
    h(
      "div",
      { class: "sides" },
      side("preferred", text(pair.preferred)),
      side("dispreferred", text(pair.dispreferred)),
    ),
  );
}

function columnsTable(columns) {
  return dataTable(
    [
      h("th", {}, "Column"),
      h("th", {}, "Taken for"),
      h("th", { class: "narrow-hide" }, "Holds"),
      h("th", {}, "Begins with"),
    ],
    columns.map((column) =>
      h(
        "tr",
        {},
        h("td", {}, h("code", {}, column.name)),
        h("td", {}, column.role ?? h("span", { class: "quiet" }, "kept beside the pair")),
        h("td", { class: "narrow-hide quiet" }, column.holds),
        h("td", {}, h("span", { class: "clip small", dir: "auto" }, column.example)),
      ),
    ),
  );
}

/**
 * The tables of a file that holds several, of which one is chosen.
 *
 * @param {{snippet: string, message: string}[]} members name and size of each
 * @param {(member: string) => void} choose
 */
export function memberChoice(members, choose) {
  return dataTable(
    null,
    members.map((member) =>
      h(
        "tr",
        {},
        h("td", {}, h("code", {}, member.snippet)),
        h("td", { class: "num quiet" }, member.message),
        h(
          "td",
          { class: "num" },
          h(
            "button",
            {
              type: "button",
              "aria-label": `Look at ${member.snippet}`,
              onclick: () => choose(member.snippet),
            },
            "Look at it",
          ),
        ),
      ),
    ),
    { class: "members" },
  );
}

export function rejectedRows(errors) {
  return dataTable(
    [
      h("th", { class: "num" }, "Row"),
      h("th", {}, "Column"),
      h("th", {}, "Reason"),
      h("th", { class: "narrow-hide" }, "How it begins"),
    ],
    errors
      .slice(0, 100)
      .map((item) =>
        h(
          "tr",
          {},
          h("td", { class: "num" }, item.row ? count(item.row) : ""),
          h("td", {}, h("code", {}, item.field ?? "")),
          h("td", {}, item.message),
          h("td", { class: "narrow-hide" }, h("code", { class: "clip" }, item.snippet ?? "")),
        ),
      ),
  );
}
