"""From prompts to a dataset in a real browser: answers are generated, judged twice, and paired."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

ROWS = [{"prompt": f"Is {n} in the set?", "chosen": "Yes", "rejected": "No the"} for n in range(4)]


def test_answers_are_generated_judged_and_made_into_pairs(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    page = browser_page
    page.set_default_timeout(60_000)
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.get_by_role("link", name="Generate answers").click()
    page.locator("#field-samples").fill("3")
    page.locator("#field-answer_tokens").fill("12")
    page.locator("[data-submit]").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=180_000)

    page.get_by_role("link", name="Judge these answers").click()
    expect(page.locator("#field-keywords")).to_have_value(re.compile("I cannot"))
    # What a random model writes: about half of the answers hold one of these.
    page.locator("#field-keywords").fill("a\ne\nthe\nYes\nNo")
    page.get_by_role("button", name="Start judging").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("[data-rate]")).to_contain_text("12answers")
    expect(page.locator("[data-rate]")).to_contain_text("95 % interval")
    expect(page.locator("[data-answers] .pair")).to_have_count(12)
    first = page.url

    page.get_by_role("link", name="Judge again…").click()
    expect(page.locator("#field-keywords")).to_have_value("a\ne\nthe\nYes\nNo")
    page.locator("#field-keywords").fill("in")
    page.locator("#field-keyword_characters").fill("0")
    page.get_by_role("button", name="Start judging").click()
    expect(page.locator("#field-keyword_characters-error")).to_contain_text("greater than")
    browser_errors.clear()  # the browser complains of the status by which the form knows
    page.locator("#field-keyword_characters").fill("500")
    page.get_by_role("button", name="Start judging").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("[data-agreement] tbody tr")).to_have_count(1)

    page.goto(first)
    expect(page.locator("[data-agreement]")).to_contain_text("of 12")
    page.locator("[data-verdict-filter]").select_option("negative")
    expect(page.locator('[data-answers] .pair:not([data-verdict="negative"])')).to_have_count(0)
    page.locator("[data-search]").fill("no answer holds this")
    expect(page.locator("[data-answers]")).to_contain_text("No answer passes these filters.")
    page.get_by_role("button", name="Make a dataset").click()
    made = page.locator("[data-pairs-result] a")
    made.wait_for()
    made.click()
    expect(page.locator("h1")).to_contain_text("Pairs of")
    expect(page.locator(".pair").first).to_contain_text("Is 0 in the set?")
