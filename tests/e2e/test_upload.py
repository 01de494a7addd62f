"""Bringing in a file in a real browser: seen before it is stored, mapped, recognized, taken out."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser


ROW = '{"prompt": "Is ice light?", "chosen": "Yes.", "rejected": "No."}\n'


def choose(page: Any, path: Path) -> None:
    page.locator("[data-drop-input]").set_input_files(path)


def test_columns_are_mapped_and_the_file_is_recognized_when_it_comes_again(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    file = tmp_path / "odd.csv"
    file.write_text('query,good,bad,who\n"A, b?",<b>Yes</b>,No,ann\n"A, b?",No,<b>Yes</b>,ben\n')
    page.goto(f"{live_stack}/datasets")
    choose(page, file)
    seen = page.locator("[data-drop-result]")
    expect(seen).to_contain_text("the mapping is guessed from their names")
    expect(seen.locator(".side.preferred").first).to_contain_text("<b>Yes</b>")
    # Told otherwise, it looks again, and shows what that would make of the rows.
    seen.locator('select[name="prompt"]').select_option("who")
    seen.get_by_role("button", name="Look again with these columns").click()
    expect(seen.locator(".turn").first).to_contain_text("ann")
    seen.locator('select[name="prompt"]').select_option("query")
    seen.get_by_role("button", name="Look again with these columns").click()
    expect(seen.locator(".turn").first).to_contain_text("A, b?")
    seen.get_by_role("button", name="Store this dataset").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("odd")
    page.locator("[data-issue]").select_option("contradiction")
    expect(page.locator(".pair").first).to_contain_text("contradicts pair 1")
    stored = page.url

    page.goto(f"{live_stack}/datasets")
    choose(page, file)
    seen.get_by_role("button", name="Store this dataset").click()
    expect(seen).to_contain_text("odd.csv is stored already")
    browser_errors.clear()  # the browser complains of the 409 by which the page knows
    seen.get_by_role("link", name="Open that dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("odd")
    assert page.url.split("?")[0] == stored.split("?")[0]

    page.locator('select[name="form"]').select_option("original")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert rows[0] == {"query": "A, b?", "good": "<b>Yes</b>", "bad": "No", "who": "ann"}


def test_a_table_of_an_archive_is_chosen(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    file = tmp_path / "pairs.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data/train.jsonl", ROW * 3)
        archive.writestr("data/test.jsonl", ROW)
    page.goto(f"{live_stack}/datasets")
    choose(page, file)
    seen = page.locator("[data-drop-result]")
    expect(seen).to_contain_text("pairs.zip: which table?")
    expect(seen.locator("tbody tr")).to_have_count(2)
    browser_errors.clear()  # the browser complains of the 422 by which the page knows
    seen.get_by_role("button", name="Look at data/test.jsonl").click()
    expect(seen).to_contain_text("JSONL, data/test.jsonl")
    expect(seen).to_contain_text("The file has 1 row")
    seen.get_by_role("button", name="Store this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("pairs: test")
    expect(page.locator(".page-head .facts-line")).to_contain_text("pairs.zip: data/test.jsonl")
