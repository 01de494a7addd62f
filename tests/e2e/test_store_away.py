"""A run's page while the database is away: it says so, and catches up by itself."""

import threading
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.core.database import transaction
from app.streaming import feed
from tests.app import factories
from tests.app.serving import serving
from tests.app.streaming.test_hub import write
from tests.support import eventually

pytestmark = pytest.mark.browser


def test_the_page_says_that_the_database_is_away_and_catches_up(
    database: Any, browser_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setattr(feed, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(feed, "SAFETY_POLL_SECONDS", 0.1)
    away, really = threading.Event(), feed.load_run

    def load(run_id: int) -> Any:
        if away.is_set():
            raise OperationalError("select", None, ConnectionError("the database is away"))
        return really(run_id)

    monkeypatch.setattr(feed, "load_run", load)
    with transaction() as session:
        run = factories.run(session, factories.dataset(session).id, progress_total=9)
        factories.probe(session, run.id)
    page = browser_page
    expect.set_options(timeout=30_000)
    with serving() as server:
        page.goto(f"{server.url.removesuffix('/api/v1')}/runs/{run.id}")
        eventually(lambda: server.app.state.hub.feeds, seconds=30)  # the page listens
        write(run.id, 1)
        expect(page.locator("[data-progress-text]")).to_have_text("1 of 9 steps")
        banner = page.locator("[data-banner]")
        expect(banner).to_be_hidden()
        away.set()
        expect(banner).to_contain_text("The database does not answer")
        expect(banner).to_contain_text("catching up")
        write(run.id, 2)
        away.clear()
        expect(page.locator("[data-progress-text]")).to_have_text("2 of 9 steps")
        expect(banner).to_be_hidden()
        page.goto("about:blank")  # lets go of the stream, for which the server would wait
