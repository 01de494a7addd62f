"""What a newcomer does, in a real browser against a whole `chesboard up`: bring in a dataset, score
it, flag the worst pairs, train, and watch the curves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import eventually

pytestmark = pytest.mark.browser

SECONDS = 1000.0

PAIRS = [
    {"prompt": f"Is {number} an even number?", "chosen": chosen, "rejected": rejected}
    for number, (chosen, rejected) in enumerate(
        [("No", "Never"), ("Yes", "Sure"), ("No, it is odd.", "No, it is not."), ("Maybe", "Yes")]
        * 3
    )
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "even-numbers.jsonl"
    lines = [json.dumps(pair) for pair in PAIRS]
    lines.insert(2, '{"prompt": "Is there a response?", "chosen": "Yes"}')
    path.write_text("\n".join(lines))
    return path


def plotted(page: Any, chart: str, trace: int = 0) -> list[float]:
    """The x values that a chart shows on the screen."""
    return page.evaluate(
        "([chart, trace]) => Array.from(document.querySelector(`${chart} .js-plotly-plot`)"
        "?.data?.[trace]?.x ?? [])",
        [chart, trace],
    )


def choose(page: Any, field: str, value: str) -> None:
    named = page.locator(f'[data-field="{field}"]')
    control = named.locator("input, select, textarea").first
    folded = page.locator("details:not([open])").filter(has=named)
    if folded.count():
        folded.locator("> summary").click()
    if control.evaluate("element => element.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.fill(value)


def test_upload_score_flag_train_and_watch(live_stack: str, browser_page: Any, file: Path) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    page.goto(f"{live_stack}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    # What was understood is shown before anything is stored.
    notice = page.locator("[data-drop-result]")
    expect(notice).to_contain_text("Read as a prompt and two responses as plain text")
    notice.get_by_role("button", name="Store this dataset").click()
    # One row was no pair: the page says which and why before it goes on.
    expect(notice).to_contain_text("12 pairs stored, 1 row rejected")
    expect(notice.locator("tbody tr")).to_contain_text(["rejected"])
    notice.get_by_role("link", name="Open the dataset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("even-numbers")

    page.get_by_role("link", name="Score by CHES").click()
    choose(page, "model", "tiny")
    page.locator("[data-submit]").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)
    rows = page.locator("[data-scores] tbody tr[data-pair], [data-scores] tbody tr")
    expect(rows.first).to_be_visible()
    page.locator("[data-flag-percent]").fill("25")
    page.locator("[data-flag]").click()
    expect(page.locator("[data-scores]")).to_contain_text("flagged")

    dataset = page.locator(".crumbs a").last.evaluate("link => link.href")
    page.goto(f"{dataset}/review?sort=-ches")
    # The first pair has the highest score: its marker stands at the end of the bar.
    marker = page.locator(".at-bar").first
    expect(marker).to_be_visible()
    assert marker.evaluate("bar => bar.style.getPropertyValue('--at')") == "100.0%"

    page.goto(dataset)
    page.get_by_role("link", name="Train", exact=True).click()
    choose(page, "model", "tiny")
    choose(page, "learning_rate", "0.001")
    choose(page, "batch_size", "2")
    choose(page, "epochs", "20")
    choose(page, "probe_every", "1")
    page.locator("[data-submit]").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    # Curves appear while the run is going on, and are complete when it has ended.
    expect(page.locator("#chart-fork .scatterlayer .lines path").first).to_be_attached(
        timeout=30 * SECONDS
    )
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)
    eventually(lambda: len(plotted(page, "#chart-fork")) == 121)
    assert plotted(page, "#chart-fork") == list(range(121))
    # A chart is drawn once it comes into view.
    page.locator("#chart-loss").scroll_into_view_if_needed()
    eventually(lambda: plotted(page, "#chart-loss") == list(range(1, 121)))
    expect(page.locator(".verdict")).to_contain_text("response")
    expect(page.locator("#ledger")).to_contain_text("all other tokens")
