"""A pre-flight in a real browser: asked for from the dataset, read on its page, opened by pair."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

WORDS = ["Yes", "No", "In the", "Yes the", "No the", "in the Yes"]
PAIRS = [
    {
        "prompt": f"Is {n} in the set?",
        "chosen": WORDS[n % 6],
        "rejected": WORDS[(n + 1 + n // 6) % 6],
    }
    for n in range(12)
]


def test_a_first_step_is_foreseen_and_read_pair_by_pair(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30_000)
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.get_by_role("link", name="Pre-flight", exact=True).click()
    expect(page.locator("#field-selection-limit")).to_have_value("16")
    page.get_by_role("button", name="Start the pre-flight").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("[data-pairs] tbody tr")).to_have_count(12)
    expect(page.locator("[data-summary]")).to_contain_text("of 12 preferred responses fall")
    expect(page.locator("[data-summary]")).to_contain_text("No training run from this model")
    matrix = page.locator("#chart-influence .js-plotly-plot")
    matrix.wait_for()
    assert page.evaluate("document.querySelector('#chart-influence .plot').data[0].z.length") == 12
    page.locator("[data-pairs] tbody tr").first.click()
    expect(page.locator("[data-pair-detail]")).to_contain_text("Gain at the fork")
    expect(page.locator("[data-pair-detail]")).to_contain_text("No training run from this model")
    expect(page.locator("#chart-interference .note")).to_contain_text("Lowering y− takes")
