"""Watching a run of one's own in a browser: the lines to paste, and the first record."""

from typing import Any

import httpx
import pytest

from tests.app.runs.external.sending import begin, metric, probe, probe_step, send

pytestmark = pytest.mark.browser


def test_the_first_record_of_a_run_elsewhere_arrives_live(
    live_stack: str, browser_page: Any, browser_errors: list[str]
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.goto(f"{live_stack}/runs")
    page.get_by_role("link", name="Watch a run of your own").first.click()
    expect(page.locator("[data-environment]")).to_contain_text(f"CHESBOARD_URL={live_stack}")
    page.get_by_role("button", name="axolotl").click()
    expect(page.locator("[data-trainer]:visible pre")).to_contain_text("chesboard.axolotl.Plugin")

    with httpx.Client(base_url=live_stack, timeout=60) as http:
        client: Any = http
        run_id = begin(client, name="a run elsewhere")["id"]
        status = page.locator("[data-arrival-status]")
        expect(status).to_contain_text("a run elsewhere")
        records: list[Any] = [probe()]
        for step in range(1, 9):
            records += [metric(step, loss=1 / step), probe_step(step)]
        assert send(client, run_id, records).status_code == 200
        expect(status).to_contain_text("at step 8")

        page.get_by_role("link", name="Open its page").click()
        expect(page.locator("#chart-loss")).to_contain_text("Loss")
        page.goto("about:blank")  # it would ask once more for the run that is gone
        assert http.delete(f"/api/v1/runs/{run_id}").status_code == 204
    assert browser_errors == []
