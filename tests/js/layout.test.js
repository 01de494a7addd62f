// How static/ is laid out: one page script a template with the same name, and no line over 120 columns.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../", import.meta.url);
const COLUMNS = 120;
const filesOf = (folder, ending) =>
  readdirSync(new URL(folder, ROOT), { recursive: true }).filter((name) => name.endsWith(ending));
const read = (path) => readFileSync(fileURLToPath(new URL(path, ROOT)), "utf8");

test("every page script belongs to the template of its name", () => {
  const templates = filesOf("templates/", ".html").map((name) => basename(name, ".html"));
  const scripts = readdirSync(new URL("static/pages/", ROOT)).filter((name) => name.endsWith(".js"));
  for (const script of scripts) {
    const name = basename(script, ".js");
    assert.ok(templates.includes(name), `static/pages/${script} has no template`);
    if (!name.startsWith("_")) assert.ok(read(`templates/${name}.html`).includes(`/static/pages/${script}"`));
  }
});

test("a template loads no page script but its own", () => {
  for (const template of filesOf("templates/", ".html")) {
    for (const [, name] of read(`templates/${template}`).matchAll(/\/static\/pages\/(\w+)\.js"/g)) {
      assert.equal(name, basename(template, ".html"));
    }
  }
});

test("no line of a script or template is longer than 120 columns", () => {
  const scripts = filesOf("static/", ".js").map((name) => `static/${name}`);
  const templates = filesOf("templates/", ".html").map((name) => `templates/${name}`);
  for (const file of [...scripts, ...templates]) {
    read(file)
      .split("\n")
      .forEach((line, i) => {
        assert.ok([...line].length <= COLUMNS, `${file}:${i + 1} has ${[...line].length} columns`);
      });
  }
});

test("every script says what it owns, and figures and lib depend on no chart or page", () => {
  for (const script of filesOf("static/", ".js")) {
    const text = read(`static/${script}`);
    assert.match(text, /^\/\/ \S/, `static/${script} begins without a comment`);
    if (/^(lib|figures)\//.test(script)) {
      assert.doesNotMatch(text, /^import .*"(\.\.\/)+(charts|pages)\//m, `static/${script} imports upward`);
    }
  }
});
