"""A reviewer's work in a real browser: ten pairs by keyboard, a change of mind, the file that comes
out, and a run on what is left."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PAIRS = [
    {"prompt": f"What is {n} and {n}?", "chosen": f"It is {2 * n}.", "rejected": f"It is {n}."}
    for n in range(1, 13)
]
VERDICTS = ["keep", "drop", "unsure", "keep", "fix", "drop", "keep", "keep", "drop", "keep"]


@pytest.fixture
def dataset(live_stack: str, browser_page: Any) -> str:
    """The address of a dataset of twelve pairs."""
    lines = "\n".join(json.dumps(pair) for pair in PAIRS)
    return store(browser_page, live_stack, lines.encode(), "sums.jsonl")


def store(page: Any, stack: str, content: bytes, name: str) -> str:
    file = {"name": name, "mimeType": "application/jsonl", "buffer": content}
    answer = page.request.post(f"{stack}/api/v1/datasets", multipart={"file": file})
    assert answer.ok, answer.text()
    return f"{stack}/datasets/{answer.json()['id']}"


def texts(page: Any, dataset: str) -> list[tuple[str, str, str]]:
    found = page.request.get(dataset.replace("/datasets/", "/api/v1/datasets/") + "/pairs").json()
    return [(row["prompt"], row["preferred"], row["dispreferred"]) for row in found["items"]]


def test_pairs_are_reviewed_by_keyboard_exported_and_trained_on(
    live_stack: str, browser_page: Any, dataset: str
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.goto(f"{dataset}/review?sort=pair")
    press = page.keyboard.press
    title = page.get_by_role("heading", level=2, name=re.compile(r"^Pair \d+$"))
    for pair, verdict in enumerate(VERDICTS):
        expect(title).to_have_text(f"Pair {pair}")
        if pair == 1:  # a note is written before its verdict is given
            press("n")
            page.keyboard.type("the sum is wrong")
            press("Escape")
        press(verdict[0])
        if verdict == "fix":
            page.locator("#edit-preferred").fill("It is eight.")
            press("Control+Enter")
    expect(title).to_have_text("Pair 10")
    progress = page.locator("[data-progress]")
    expect(progress).to_contain_text("10 of 12 reviewed")
    expect(page.locator('[data-count="drop"]')).to_contain_text("3")

    # The last verdict is taken back, and pair 8 is kept after all: its history has both.
    press("z")
    expect(title).to_have_text("Pair 9")
    expect(progress).to_contain_text("9 of 12 reviewed")
    press("ArrowLeft")
    expect(title).to_have_text("Pair 8")
    press("k")
    expect(title).to_have_text("Pair 9")
    press("ArrowLeft")
    press("h")
    expect(page.locator("[data-history]")).to_contain_text("drop")
    assert "at=8" in page.url  # the address leads back to where one was
    page.reload()
    expect(title).to_have_text("Pair 8")
    expect(page.locator('[data-count="drop"]')).to_contain_text("2")

    with page.expect_download() as download:
        page.locator("[data-export]").click()
    exported = Path(download.value.path()).read_bytes()
    left = [n for n in range(12) if n not in (1, 5)]
    assert [json.loads(line)["prompt"] for line in exported.splitlines()] == [
        PAIRS[n]["prompt"] for n in left
    ]
    again = store(page, live_stack, exported, "cleaned.jsonl")
    kept = texts(page, dataset)
    assert texts(page, again) == [kept[n] for n in left]
    assert kept[4][1] == "It is eight."

    page.get_by_role("link", name="Train on what is left").click()
    expect(page.locator("[data-selection-count]")).to_have_text("10 of 12 pairs.")
    field = page.locator('[data-field="selection.limit"] input')
    field.fill("7")
    expect(page.locator("[data-selection-count]")).to_have_text("7 of 12 pairs.")
    field.fill("")
    page.locator('[data-field="model"] select').select_option("tiny")
    page.locator("[data-submit]").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    expect(page.locator("#pairs")).to_contain_text("10 of 12 pairs: without verdict drop")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=60_000)

    # A control: as many pairs, by chance, from all of them.
    page.get_by_role("link", name="Train a random control").click()
    expect(page.locator("[data-selection-count]")).to_have_text("10 of 12 pairs.")
    page.locator("[data-submit]").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    expect(page.locator("#pairs")).to_contain_text("It is a random control of the same size")
    page.locator("#pairs").get_by_role("link", name=re.compile("Compare with run")).click()
    expect(page.locator(".settings")).to_contain_text("10 of 12 pairs: without verdict drop")
