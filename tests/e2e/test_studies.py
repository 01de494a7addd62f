"""A study in a real browser: planned, started, followed to its table, extended, taken away as a
report that opens by itself, rid of its model, and planned again from its file."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

WORDS = [("Yes", "Sure"), ("No", "Never")]
PAIRS = [
    {"prompt": f"Is {n} in it?", "chosen": WORDS[n % 2][0], "rejected": WORDS[n % 2][1]}
    for n in range(8)
]


def test_a_study_from_its_form_to_its_table_and_back(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(60_000)
    file = tmp_path / "study.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.wait_for_url("**/datasets/*")
    dataset = page.url.rpartition("/")[2]

    page.goto(f"{live_stack}/studies/new?kind=single_pair&dataset_id={dataset}")
    form = page.locator('[data-form="single_pair"]')
    preview = page.locator("[data-preview]")
    expect(preview).to_contain_text("6 runs.")
    form.locator('[data-field="seeds"] input').fill("zero")
    expect(form.locator('[data-field="seeds"] .error')).to_contain_text("no number")
    expect(page.get_by_role("button", name="Start the study")).to_be_disabled()
    form.locator('[data-field="seeds"] input').fill("0-1")
    form.locator('[data-field="steps"] input').fill("3")
    form.locator('[data-field="recorded"] input').fill("1, 3")
    form.locator('[data-field="config.learning_rate"] input').fill("1e-3")
    form.locator('[data-field="fine_tune"] input').check()
    expect(preview).to_contain_text("5 runs.")
    page.get_by_role("button", name="Start the study").click()

    page.wait_for_url("**/studies/*")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=180_000)
    expect(page.locator("[data-progress]")).to_contain_text("5 of 5 runs")
    table = page.locator(".study-table").first
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tbody tr").first.locator(".run-links a")).to_have_count(3)
    page.locator("[data-wide-charts] .js-plotly-plot").first.wait_for()
    with page.expect_download() as plan:
        page.get_by_role("link", name="Plan", exact=True).click()
    plan.value.save_as(tmp_path / "plan.json")
    with page.expect_download() as report:
        page.get_by_role("link", name="Report").click()
    report.value.save_as(tmp_path / "report.html")

    page.get_by_text("Extend the study").click()
    page.get_by_label("Seeds").fill("2")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("[data-progress]")).to_contain_text("7 of 7 runs", timeout=180_000)

    # The model that all runs started from goes; the table stays.
    remove = page.get_by_role("button", name="Remove 1 trained model")
    remove.click()
    expect(page.get_by_role("dialog")).to_contain_text("This frees")
    page.get_by_role("button", name="Remove the models").click()
    expect(remove).to_have_count(0)
    expect(table.locator("tbody tr")).to_have_count(2)

    # Every cell is one click from its runs, and a run leads back to its study.
    address = page.url
    table.locator("tbody tr").first.locator(".run-links a").first.click()
    page.wait_for_url("**/runs/*")
    page.get_by_role("link", name="Study:").click()
    page.wait_for_url(address)

    # Without the server: neither scripts nor styles of it.
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator("h1")).to_contain_text("Single pairs")
    page.locator(".js-plotly-plot").first.wait_for()

    page.goto(f"{live_stack}/studies/new?kind=remedy_bench")
    page.locator("[data-plan-file]").set_input_files(tmp_path / "plan.json")
    expect(preview).to_contain_text("5 runs.")
    expect(form.locator('[data-field="steps"] input')).to_have_value("3")
