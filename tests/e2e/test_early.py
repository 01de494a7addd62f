"""What a person does on a page before its scripts have come, as on a slow line."""

from typing import TYPE_CHECKING

import pytest

from tests import PROJECT_ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

ORIGIN = "http://early.test"

PAGE = """<!doctype html>
<script src="/early.js"></script>
<script type="module" src="/page.js"></script>
<form action="/sent"><input name="text"><button>Send</button></form>
<button type="button">Act</button>
<label><input type="checkbox"> Mark</label>
<details><summary>More</summary></details>
"""

SCRIPT = """
window.seen = [];
const note = (event) => seen.push(event.type);
document.querySelector("[type=button]").addEventListener("click", note);
document.querySelector("[type=checkbox]").addEventListener("change", note);
document.querySelector("[name=text]").addEventListener("input", note);
document.querySelector("details").addEventListener("toggle", note);
document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    note(event);
});
"""


@pytest.fixture
def held(browser_page: "Page") -> "list[Route]":
    """Requests for the page's script, which wait until the test answers them."""
    held: list[Route] = []
    early = (PROJECT_ROOT / "static/lib/early.js").read_text()
    page = browser_page
    page.route(f"{ORIGIN}/", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route(
        f"{ORIGIN}/early.js",
        lambda route: route.fulfill(body=early, content_type="text/javascript"),
    )
    page.route(f"{ORIGIN}/page.js", lambda route: held.append(route))
    page.goto(f"{ORIGIN}/", wait_until="commit")
    while not held:
        page.wait_for_timeout(5)
    return held


def run_script(page: "Page", held: "list[Route]") -> None:
    held[0].fulfill(body=SCRIPT, content_type="text/javascript")
    page.wait_for_load_state()


def test_what_was_done_early_is_done_once_and_in_order(
    browser_page: "Page", held: "list[Route]"
) -> None:
    page = browser_page
    page.get_by_role("button", name="Act").click()
    page.get_by_role("checkbox").check()
    page.get_by_text("More").click()
    page.locator("[name=text]").press_sequentially("typed")
    page.get_by_role("button", name="Send").click()
    run_script(page, held)
    page.wait_for_function("seen.length >= 5")
    assert page.evaluate("seen") == ["click", "change", "toggle", "input", "submit"]
    assert page.get_by_role("checkbox").is_checked()
    assert page.locator("details").get_attribute("open") is not None
    assert page.url == f"{ORIGIN}/", "the form is the script's"


def test_once_the_scripts_have_come_events_take_their_own_way(
    browser_page: "Page", held: "list[Route]"
) -> None:
    page = browser_page
    run_script(page, held)
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")
    page.get_by_role("button", name="Act").click()
    page.get_by_role("checkbox").check()
    assert page.evaluate("seen") == ["click", "change"]
