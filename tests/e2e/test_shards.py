"""The workers of a run in a real browser."""

import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.browser

PAIRS = [{"prompt": f"Is it {n}?", "chosen": "Yes", "rejected": "No"} for n in range(2100)]
"""More than one shard's."""


@pytest.fixture(scope="module")
def dataset_id(live_stack: str) -> int:
    lines = "\n".join(json.dumps(pair) for pair in PAIRS)
    files = {"file": ("many.jsonl", lines.encode())}
    answer = httpx.post(f"{live_stack}/api/v1/datasets", files=files, timeout=60)
    assert answer.status_code == 201, answer.text
    found: int = answer.json()["id"]
    return found


def start(live_stack: str, page: Any, kind: str, dataset_id: int, **config: Any) -> int:
    """Queue a run and open its page."""
    page.set_default_timeout(30_000)
    body = {"kind": kind, "dataset_id": dataset_id, "config": {"model": "tiny", **config}}
    run_id: int = page.request.post(f"{live_stack}/api/v1/runs", data=body).json()["id"]
    page.goto(f"{live_stack}/runs/{run_id}")
    return run_id


def test_a_runs_page_shows_who_does_its_shards(
    live_stack: str, browser_page: Any, dataset_id: int
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    run_id = start(live_stack, page, "evaluate", dataset_id)
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=60_000)
    workers = page.locator("[data-shards]")
    expect(workers).to_contain_text("2 of 2 shards done")
    [row] = workers.locator("tbody tr").all()
    expect(row.locator("td").nth(1)).to_have_text("2")
    expect(row.locator("td").nth(2)).to_have_text("2,100")
    shown = page.request.get(f"{live_stack}/api/v1/runs/{run_id}/shards").json()
    expect(row.locator("td").first).to_have_text(shown["workers"][0]["worker"])


def test_a_training_runs_page_shows_who_does_its_reference_pass_meanwhile(
    live_stack: str, browser_page: Any, dataset_id: int
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    slow = {"batch_tokens": 32}  # a pair at a time
    training = {"max_steps": 1, "measure_displacement": False, "save_model": False}
    run_id = start(live_stack, page, "train", dataset_id, **slow, **training)
    workers = page.locator("[data-shards]")
    expect(workers.get_by_role("heading")).to_have_text(
        "Workers of the reference pass", timeout=60_000
    )
    expect(workers).to_contain_text("of 2 shards done")
    expect(workers.locator("tbody tr")).to_contain_text("at work")
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=60_000)
    expect(workers).to_be_hidden()
    shown = page.request.get(f"{live_stack}/api/v1/runs/{run_id}/shards").json()
    assert (shown["shards_done"], shown["unit"]) == (2, "pairs")
