"""Bringing in a file of rated responses in a browser: the rule that makes pairs is chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_upload import choose

pytestmark = pytest.mark.browser

ROW = {
    "instruction": "Which river flows through Paris?",
    "completions": [
        {"response": "The Seine.", "overall_score": 9.0, "model": "a"},
        {"response": "The Rhine.", "overall_score": 2.0, "model": "b"},
        {"response": "A river.", "overall_score": 6.0, "model": "c"},
    ],
}


def test_rule_that_makes_pairs_is_chosen_in_the_preview(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    file = tmp_path / "rated.jsonl"
    file.write_text(json.dumps(ROW) + "\n")
    page.goto(f"{live_stack}/datasets")
    choose(page, file)
    seen = page.locator("[data-drop-result]")
    expect(seen).to_contain_text("Each row holds 3 rated responses")
    expect(seen).to_contain_text("the best and the worst make a pair")
    # Another rule makes other pairs.
    seen.locator("#pairing-rule").select_option("gap")
    seen.get_by_role("button", name="Look again with this rule").click()
    expect(seen).to_contain_text("Give the least difference, above 0.")
    seen.locator("#pairing-gap").fill("3.4")
    seen.get_by_role("button", name="Look again with this rule").click()
    expect(seen).to_contain_text("2 pairs can be made of them")
    expect(seen.locator(".pair")).to_have_count(2)
    seen.get_by_role("button", name="Store this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("rated")
    expect(page.locator("dl.facts")).to_contain_text("differ by at least 3.4")


def test_mapping_of_a_list_names_its_fields(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    file = tmp_path / "unknown.jsonl"
    items = [{"say": "Yes.", "stars": 1}, {"say": "No.", "stars": 5}]
    file.write_text(json.dumps({"ask": "Is it?", "options": items}) + "\n")
    page.goto(f"{live_stack}/datasets")
    choose(page, file)
    seen = page.locator("[data-drop-result]")
    seen.locator("#mapping-shape").select_option("list")
    for role, name in {
        "prompt": "ask",
        "candidates": "options",
        "response": "say",
        "ratings": "stars",
    }.items():
        seen.locator(f'select[name="{role}"]').select_option(name)
    seen.get_by_role("button", name="Look again with these columns").click()
    expect(seen.locator(".side.preferred")).to_contain_text("No.")
    seen.get_by_role("button", name="Store this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("unknown")
