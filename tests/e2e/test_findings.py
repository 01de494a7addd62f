"""Checking a dataset under a model in a real browser: asked for, followed, opened pair by pair."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PAIRS = [
    *[{"prompt": f"Is {n} odd?", "chosen": "Yes", "rejected": "No"} for n in range(3)],
    *[{"prompt": f"Is {n} odd?", "chosen": "Well, yes", "rejected": "Well, no"} for n in range(7)],
]


def test_what_a_model_reads_is_seen_before_anything_is_computed(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30_000)
    file = tmp_path / "odd.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()

    page.get_by_role("link", name="Check under a model").click()
    page.get_by_label("Max response tokens").fill("5")
    page.get_by_role("button", name="Start the check").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=60_000)
    expect(page.get_by_role("row", name="Preferred y+")).to_contain_text("10")  # bytes, and an end

    same = page.locator('[data-finding="same_tokens"]')
    expect(same).to_contain_text("7 pairs")
    same.locator("summary").click()
    expect(same).to_contain_text("Raise max_response_tokens")
    expect(same.locator(".pair")).to_have_count(5)
    same.get_by_role("button", name="Show more (2 left)").click()
    expect(same.locator(".pair")).to_have_count(7)
    expect(same.get_by_role("button")).to_have_count(0)
    same.locator(".pair").first.get_by_role("link").click()
    expect(page.locator("#pair-3")).to_contain_text("Well, yes")
