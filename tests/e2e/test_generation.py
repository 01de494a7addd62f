"""Answers in a real browser: asked for from the dataset, read by prompt, searched, downloaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PROMPTS = 12


def test_answers_are_generated_read_and_searched(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30_000)
    file = tmp_path / "set.jsonl"
    rows = [
        {"prompt": f"Is {n} in the set?", "chosen": "Yes", "rejected": "No"} for n in range(PROMPTS)
    ]
    repeated = {"prompt": "Is 0 in the set?", "chosen": "No", "rejected": "Yes"}
    file.write_text("\n".join(json.dumps(row) for row in [*rows, repeated]))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.get_by_role("link", name="Generate answers", exact=True).click()
    expect(page.locator("#field-answer_tokens")).to_be_visible()
    page.locator("#field-answer_tokens").fill("12")
    page.locator("#field-samples").fill("2")
    page.get_by_role("button", name="Start generating").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)

    answers = page.locator("[data-list] .answer")
    expect(page.locator("[data-list] article")).to_have_count(10)
    expect(answers).to_have_count(20)
    expect(page.locator("[data-counts]")).to_contain_text(f"{2 * PROMPTS} answers")
    expect(page.locator("[data-pager]")).to_contain_text(f"Prompts 1–10 of {PROMPTS}")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("[data-list] article")).to_have_count(PROMPTS - 10)

    page.reload()  # the address holds what is shown
    expect(page.locator("[data-list] article")).to_have_count(PROMPTS - 10)
    page.get_by_role("spinbutton", name="Pair").fill("3")
    expect(page.locator("[data-list] article")).to_have_count(1)
    whole = answers.first.locator(".text").inner_text()
    part = next(iter(re.findall(r"[a-zA-Z]+", whole)), whole[:1])
    page.get_by_role("searchbox", name="Search").fill(part)
    expect(page.locator("[data-list] mark").first).to_have_text(re.compile(part, re.IGNORECASE))
    expect(page.locator("[data-matching]")).to_contain_text(f"of {2 * PROMPTS} answers match")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSONL").click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert lines
    assert all(line["pair"] == 3 and part.lower() in line["text"].lower() for line in lines)

    page.get_by_role("searchbox", name="Search").fill("nowhere to be found")
    expect(page.locator("[data-list]")).to_have_text("No answer matches.")
