"""The data doctor in a real browser: seen, sent to review, left out of a run, exported without."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

ROWS = [
    {"prompt": "Where is it?", "chosen": "On the island.", "rejected": "Behind the hills."},
    {"prompt": "When?", "chosen": "At <b>nine</b>, I think.", "rejected": "In the evening."},
    {"prompt": "Why?", "chosen": "For the wind.", "rejected": "for the wind"},
    {"prompt": "Why?", "chosen": "For the wind.", "rejected": "for the wind"},
]


def test_what_the_doctor_finds_is_seen_and_left_out(
    live_stack: str, browser_page: Any, browser_errors: list[str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    file = tmp_path / "island.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("island")
    page.get_by_role("link", name="Data doctor", exact=True).click()

    kind = page.locator('[data-kind="leftover_markup"]')
    held: list[Any] = []
    page.route("**/static/pages/doctor.js", lambda route: held.append(route), times=1)
    page.reload(wait_until="commit")
    kind.locator("summary").click()  # before the script of the page has come
    held[0].continue_()
    expect(kind.locator("mark")).to_have_text("<b>")
    near = page.locator('[data-kind="near_identical"]')
    near.locator("summary").click()
    expect(near.locator(".pair").first).to_contain_text("but for case, blanks and punctuation")
    doctor = page.url

    kind.get_by_role("link", name="Send to review").click()
    expect(page.locator('[name="issue"]')).to_have_value("leftover_markup")
    expect(page.locator("[data-announce]")).to_contain_text("Pair 1, 1 of 1")

    page.goto(doctor)
    for label in ("Leftover markup", "Repeated pairs"):
        page.get_by_role("checkbox", name=f"Mark: {label}").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export without the marked").click()
    exported = Path(download.value.path()).read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in exported] == ["Where is it?", "Why?"]
    page.get_by_role("button", name="Train without the marked").click()
    expect(page.locator("[data-selection-count]")).to_have_text("2 of 4 pairs.")

    page.goto(doctor)
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_role("button", name="Check again")).to_be_enabled()
    expect(page.locator('[data-kind="leftover_markup"]')).to_be_visible()
    assert browser_errors == []
