"""Filtered DPO in a real browser: asked for on the form, read on the run's page and in a pair's
history."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.tiny_models.classifiers import save_reward_model

pytestmark = pytest.mark.browser

ROWS = [
    {"prompt": f"Is {n} in the set?", "chosen": "Yes" * (n % 3 + 1), "rejected": "No the"}
    for n in range(12)
]


@pytest.fixture
def reward_model(tiny_model_dir: Path) -> Iterator[str]:
    folder = save_reward_model(tiny_model_dir.parent / "reward")
    yield folder.name
    shutil.rmtree(folder)


def test_dropped_pairs_are_listed_beside_what_the_model_wrote(
    live_stack: str, browser_page: Any, reward_model: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(60_000)
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_text("Filter as the model improves").click()
    tokens = page.locator("#field-refresh_filter-answer_tokens")
    expect(tokens).to_be_hidden()
    page.locator("#field-refresh_filter-reward_model").select_option(reward_model)
    tokens.fill("8")
    page.locator("#field-epochs").fill("2")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=180_000)

    epochs = page.locator("[data-filter-epochs] tbody tr")
    expect(epochs).to_have_count(2)
    expect(epochs.first).to_contain_text("12")
    shown = page.locator("[data-filter-list] article")
    expect(shown.first).to_contain_text("dropped")
    page.get_by_role("combobox", name="Show").select_option("kept")
    page.get_by_role("combobox", name="Epoch").select_option("2")
    expect(shown.first).to_have_attribute("data-kept", "true")
    expect(page).to_have_url(re.compile(r"kept=true&epoch=2"))
    page.reload()
    expect(shown.first).to_have_attribute("data-kept", "true")
    expect(page.get_by_role("combobox", name="Epoch")).to_have_value("2")
    page.get_by_role("combobox", name="Epoch").select_option("all")
    page.get_by_role("combobox", name="Show").select_option("dropped")
    expect(shown.first).to_have_attribute("data-kept", "false")
    with page.expect_download() as download:
        page.locator("[data-filter-download=jsonl]").click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert lines
    assert all(not line["kept"] for line in lines)

    found = page.request.get(f"{live_stack}/api/v1{urlsplit(page.url).path}").json()
    pair = lines[0]["pair"]
    page.goto(f"{live_stack}/datasets/{found['dataset_id']}/review?at={pair}")
    page.locator("[data-history] summary").first.click()
    expect(page.locator("[data-dropped]")).to_contain_text("dropped before epoch")
