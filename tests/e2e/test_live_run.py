"""A run that is watched while it goes on, with the connection lost in the middle."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

from app.core.database import transaction
from app.store.runs import QUIET_AFTER, Run
from app.streaming import feed
from tests.app import factories
from tests.app.serving import serving
from tests.e2e.test_main_path import SECONDS, plotted
from tests.support import eventually

pytestmark = pytest.mark.browser

PAIRS = [
    {"prompt": f"Is {number} odd?", "chosen": "No", "rejected": "Never"} for number in range(4)
]
STEPS = 400
# Chromium lets a page save ten files a second and drops the eleventh without a word.
BETWEEN_DOWNLOADS = 0.12
CONFIG = {
    "model": "tiny",
    "learning_rate": 1e-4,
    "batch_size": 1,
    "epochs": STEPS // len(PAIRS),
    "probe_every": 1,
    "answer_every": 50,
    "answer_tokens": 4,
    "ledger_positions": {"preferred": "all", "dispreferred": []},
    "probes": {"pairs": [0, 1], "prompts": [{"prompt": "Is it?", "watch": ["Yes", "No"]}]},
}


def call(address: str, path: str, body: bytes | None = None, kind: str = "json") -> Any:
    headers = {"Content-Type": f"application/{kind}"} if body else {}
    with urlopen(Request(f"{address}/api/v1{path}", data=body, headers=headers)) as answer:
        return json.load(answer)


@pytest.fixture
def start(live_stack: str, browser_page: Any, tmp_path: Path) -> Callable[..., int]:
    """start(epochs=1, ...): a training run over a dataset that was uploaded, and its id."""

    def start(**changes: Any) -> int:
        file = tmp_path / "odd-numbers.jsonl"
        file.write_text("\n".join(json.dumps(pair) for pair in PAIRS))
        dataset = browser_page.request.post(
            f"{live_stack}/api/v1/datasets", multipart={"file": file}
        ).json()["id"]
        body = {"kind": "train", "dataset_id": dataset, "config": {**CONFIG, **changes}}
        return call(live_stack, "/runs", json.dumps(body).encode())["id"]

    return start


@pytest.fixture
def run_id(start: Callable[..., int]) -> int:
    return start()


def web_server(address: str) -> psutil.Process:
    """The web process of the stack at this address."""
    port = address.rsplit(":", 1)[1]
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "uvicorn" in line and port in line:
            return process
    raise AssertionError(f"no web process on port {port}")


def test_a_connection_lost_in_the_middle_leaves_no_gap_and_no_point_twice(
    live_stack: str, browser_page: Any, browser_errors: list[str], run_id: int
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    page.goto(f"{live_stack}/runs/{run_id}?probe=0")
    eventually(lambda: len(plotted(page, "#chart-fork")) > 20, seconds=60)

    killed = web_server(live_stack)
    killed.kill()
    killed.wait()
    seen = len(plotted(page, "#chart-fork"))
    # It was cut in the middle: there is more to come.
    assert seen < STEPS
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)

    eventually(lambda: len(plotted(page, "#chart-fork")) == STEPS + 1)
    assert plotted(page, "#chart-fork") == list(range(STEPS + 1))
    assert plotted(page, "#chart-change") == list(range(STEPS + 1))
    page.locator("#chart-loss").scroll_into_view_if_needed()
    eventually(lambda: plotted(page, "#chart-loss") == list(range(1, STEPS + 1)))

    stored = call(live_stack, f"/runs/{run_id}/probes/0")["fork"]["preferred_prob"]
    drawn = page.evaluate(
        "Array.from(document.querySelector('#chart-fork .js-plotly-plot').data"
        ".find((trace) => trace.name.startsWith('preferred')).y)"
    )
    assert drawn == stored
    # The browser says that it could not connect; nothing else may have gone wrong.
    refused = [error for error in browser_errors if "ERR_" in error]
    browser_errors[:] = [error for error in browser_errors if error not in refused]


def test_a_page_that_came_before_the_run_moved_on_tells_what_became_of_it(
    live_stack: str, browser_page: Any, start: Callable[..., int]
) -> None:
    from playwright.sync_api import expect

    run_id = start(epochs=10)
    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    address = f"{live_stack}/runs/{run_id}"
    with urlopen(address) as answer:
        early = answer.read()
    assert b"progressbar" in early
    eventually(lambda: call(live_stack, f"/runs/{run_id}")["status"] == "succeeded", seconds=120)

    page.route(address, lambda route: route.fulfill(body=early, content_type="text/html"), times=1)
    # No event comes that could tell it.
    page.route("**/events?*", lambda route: None)
    page.goto(address)
    expect(page.locator(".chip").first).to_have_text("succeeded")
    expect(page.locator("[data-progress]")).to_have_count(0)
    expect(page.locator("[data-verdict]")).to_contain_text(
        call(live_stack, f"/runs/{run_id}")["verdict_short"]
    )


def test_the_page_of_a_run_shows_answers_prompts_bands_and_other_positions(
    live_stack: str, browser_page: Any, run_id: int
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    page.goto(f"{live_stack}/runs/{run_id}")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)
    expect(page.locator("#answers li").first).to_contain_text("step")
    expect(page.locator("[data-probe-list] .pick")).to_have_count(3)

    page.locator("#ledger").scroll_into_view_if_needed()
    page.get_by_role("button", name="since previous record").click()
    expect(page.locator(".balance")).to_contain_text(f"Since step {STEPS - 1}")
    page.get_by_role("button", name="since start").click()
    page.get_by_label("Position of the ledger").select_option("preferred:1")
    expect(page.locator("#ledger .ledger")).to_contain_text("all other tokens")
    expect(page).to_have_url(re.compile(r"[?&]at=preferred(%3A|:)1"))

    page.locator("#chart-bands").scroll_into_view_if_needed()
    eventually(lambda: plotted(page, "#chart-bands", trace=4) == list(range(STEPS + 1)))

    page.locator("[data-probe-list] .pick").last.click()
    expect(page.locator("#chart-heat-preferred")).to_be_hidden()
    eventually(lambda: len(plotted(page, "#chart-fork")) == STEPS + 1)
    names = page.evaluate(
        "document.querySelector('#chart-fork .js-plotly-plot').data.map((trace) => trace.name)"
    )
    assert names == ["Yes", "No"]


def test_every_chart_comes_as_a_picture_and_as_numbers(
    live_stack: str, browser_page: Any, start: Callable[..., int]
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    page.goto(f"{live_stack}/runs/{start(epochs=3)}")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)
    page.locator("#ledger").scroll_into_view_if_needed()
    expect(page.locator("#ledger .ledger")).to_contain_text("all other tokens")

    def saved(card: Any, label: str) -> bytes:
        page.wait_for_timeout(BETWEEN_DOWNLOADS * SECONDS)
        with page.expect_download() as download:
            card.get_by_role("button", name=f"Download as {label}").click()
        assert download.value.suggested_filename.endswith(f".{label.lower()}")
        return Path(download.value.path()).read_bytes()

    cards = page.locator(".card:has(> .card-head .downloads):visible")
    names = [card.get_attribute("id") for card in cards.all()]
    assert {"chart-fork", "ledger", "chart-flow", "chart-heat-preferred", "chart-phase"} < {*names}
    for card in cards.all():
        card.scroll_into_view_if_needed()
        if card.get_attribute("id") == "answers":
            assert saved(card, "CSV").startswith(b"step,text,ended\n")
            continue
        plot = card.locator(".js-plotly-plot")
        if card.get_attribute("id") != "ledger":
            plot.wait_for()
            plot.hover()
            # Who does not see it is told in words.
            assert re.search(r"\w.*\d", plot.get_attribute("aria-label") or "")
        assert saved(card, "PNG").startswith(b"\x89PNG")
        assert b"<svg" in saved(card, "SVG")
        assert len(saved(card, "CSV").splitlines()) > 2

    page.evaluate("() => { Plotly.toImage = async () => { throw new Error('no memory'); }; }")
    told = page.get_by_text("This chart could not be saved as PNG (no memory)")
    for count, name in enumerate(("chart-fork", "ledger"), start=1):
        page.locator(f"#{name}").get_by_role("button", name="Download as PNG").click()
        expect(told).to_have_count(count)


def test_pairs_that_are_drawn_around_are_flagged_and_the_flags_come_back(
    live_stack: str, browser_page: Any, start: Callable[..., int]
) -> None:
    from playwright.sync_api import expect

    run_id = start(epochs=10)
    page = browser_page
    page.set_default_timeout(30 * SECONDS)
    run = call(live_stack, f"/runs/{run_id}")
    body = {"kind": "score", "dataset_id": run["dataset_id"], "config": {"model": "tiny"}}
    score = call(live_stack, "/runs", json.dumps(body).encode())["id"]
    page.goto(f"{live_stack}/runs/{score}")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120 * SECONDS)
    page.locator("#chart-scatter").scroll_into_view_if_needed()
    page.get_by_role("button", name="Box").click()
    plot = page.locator("#chart-scatter .nsewdrag").first
    plot.wait_for()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=8)
    page.mouse.up()
    bar = page.locator("[data-brush]")
    expect(bar).to_contain_text("4 pairs selected")
    bar.get_by_role("button", name="Flag 4").click()
    expect(bar).to_contain_text("4 of 4 pairs (100.0 %) are flagged")
    flags = f"/datasets/{run['dataset_id']}/flags"
    assert call(live_stack, flags)["flagged"] == 4
    bar.get_by_role("button", name="Undo").click()
    expect(bar).to_contain_text("as they were before")
    assert call(live_stack, flags)["flagged"] == 0

    page.locator("#chart-displacement").scroll_into_view_if_needed()
    expect(page.locator("#chart-displacement .note")).to_contain_text(f"in run {run_id}")


def test_the_page_says_that_a_run_reports_nothing_and_no_longer_when_it_does(
    database: Any, browser_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 0.2)
    with transaction() as session:
        dataset = factories.dataset(session)
        run_id = factories.run(session, dataset.id, kind="score", status="running").id

    def report(at: datetime, revision: int) -> None:
        with transaction() as session:
            run = session.get_one(Run, run_id)
            run.reported_at, run.revision, run.progress_done = at, revision, revision

    report(datetime.now(UTC), 1)
    with serving() as server:
        browser_page.goto(f"{server.url.removesuffix('/api/v1')}/runs/{run_id}")
        notice = browser_page.locator("[data-quiet]")
        expect(notice).to_have_count(0)
        report(datetime.now(UTC) - 2 * QUIET_AFTER, 1)
        expect(notice).to_contain_text("Nothing was reported since")
        report(datetime.now(UTC), 2)
        expect(notice).to_have_count(0)
        browser_page.goto("about:blank")
