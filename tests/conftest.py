"""Fixtures that every part shares. Servers and processes are real ones.

A PostgreSQL and a Valkey are started once for a test run, in a folder that is thrown away. With
CHESBOARD_TEST_DATABASE_URL and CHESBOARD_TEST_REDIS_URL set, those servers are used instead: a
database is made on the first and dropped in the end; the second's database is emptied.

CHESBOARD_REQUIRE_ALL=1 turns a missing browser or model from a skip into a failure.
"""

import gc
import os

# Before anything imports transformers: tests never reach for the hub, and never fork with
# tokenizer threads running.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TQDM_DISABLE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes side by side, each on a core of its own: threads that wait for each other by
    # spinning would take the other's.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from sqlalchemy.orm import Session

from app.core import broker
from app.core import database as db
from app.core.settings import get_settings
from app.local import migrate as migrations
from app.local.embedded import Services
from app.local.pull import STARTER_MODEL, PullError, pull
from tests import support

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from playwright.sync_api import Browser, ConsoleMessage, Page
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

NEEDS_SERVICES = frozenset({"services", "migrated", "database", "live_stack"})


# These ask a whole running stack: all in one test process, so that only one is started.
ON_ONE_STACK = ("tests/e2e/", "tests/jobs/test_runs.py")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from what is imported and collected: hundreds of thousands of
    objects that stay until the end, and that each full collection would look at again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what talks to PostgreSQL or Redis: these are run once more against other servers.

    Where test processes share the work they get it in this order: first what waits longest, then
    the files with the most tests, so that none is left alone with a large one at the end.
    """
    for item in items:
        if NEEDS_SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.services)
    if "PYTEST_XDIST_WORKER" in os.environ:
        sizes = Counter(_unit(item.nodeid) for item in items)
        items.sort(key=lambda item: (_unit(item.nodeid) != "stack", -sizes[_unit(item.nodeid)]))


def _unit(nodeid: str) -> str:
    """What a test is run in one process with: those of its file, or all that ask a stack."""
    return "stack" if nodeid.startswith(ON_ONE_STACK) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: "Producer"
) -> "LoadFileScheduling | None":
    """Share the work by units, in the order of the collection."""
    from xdist.scheduler import LoadFileScheduling

    class ByUnit(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    return ByUnit(config, log) if config.getoption("dist") == "loadfile" else None


def _missing(reason: str) -> None:
    """Skip, loudly; or fail where everything is required."""
    if os.environ.get("CHESBOARD_REQUIRE_ALL") == "1":
        pytest.fail(f"CHESBOARD_REQUIRE_ALL=1, but {reason}")
    pytest.skip(f"NOT TESTED: {reason}")


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """A PostgreSQL and a Valkey for this test run."""
    with support.disposable_services() as services:
        yield services


@pytest.fixture(scope="session")
def migrated(services: Services) -> Services:
    """The services, their database brought up by the real migrations."""
    migrations.upgrade(services.database_url)
    return services


@pytest.fixture
def empty_url(services: Services) -> Iterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    with support.scratch_database(services.database_url, "chesboard_scratch") as url:
        yield url


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which the settings name."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("CHESBOARD_DATA_DIR", str(folder))
    get_settings.cache_clear()
    return folder


@pytest.fixture
def models_dir(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, which the settings name."""
    folder = data_dir / "models"
    folder.mkdir()
    monkeypatch.setenv("CHESBOARD_MODELS_DIR", str(folder))
    get_settings.cache_clear()
    return folder


@pytest.fixture
def database(
    migrated: Services, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """Empty tables and an empty broker, which the settings name; emptied again afterwards."""
    monkeypatch.setenv("DATABASE_URL", migrated.database_url)
    monkeypatch.setenv("REDIS_URL", migrated.redis_url)
    _forget_connections()
    yield migrated
    with db.get_engine().begin() as connection:
        support.empty_tables(connection)
    broker.get_redis().flushdb()
    _forget_connections()


def _forget_connections() -> None:
    get_settings.cache_clear()
    db.reset_engine()
    broker.reset_broker()


@pytest.fixture
def session(database: Services) -> Iterator[Session]:
    """A transaction. Others see what the test wrote once it has called session.commit()."""
    with db._session_factory()() as session:
        yield session


@pytest.fixture
def client(database: Services) -> "Iterator[TestClient]":
    """HTTP to the application, in this process, as a browser on this machine would send it."""
    from fastapi.testclient import TestClient

    from app.main import create_app

    with TestClient(create_app(), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def http() -> "TestClient":
    """HTTP to the application without a database behind it; redirects are not followed."""
    from fastapi.testclient import TestClient

    from app.main import create_app

    return TestClient(create_app(), base_url=support.HOME, follow_redirects=False)


@pytest.fixture
def locked(database: Services, monkeypatch: pytest.MonkeyPatch) -> "TestClient":
    """A server with a token for each role, and one with a name of its own."""
    from fastapi.testclient import TestClient

    from app.main import create_app

    people = get_settings().data_dir / "tokens"
    people.write_text(f"# who reviews\nreviewer ada {support.ADAS_TOKEN}\n")
    monkeypatch.setenv("CHESBOARD_TOKEN", support.OPERATOR_TOKEN)
    monkeypatch.setenv("CHESBOARD_REVIEWER_TOKEN", support.REVIEWER_TOKEN)
    monkeypatch.setenv("CHESBOARD_VIEWER_TOKEN", support.VIEWER_TOKEN)
    monkeypatch.setenv("CHESBOARD_TOKENS_FILE", str(people))
    get_settings.cache_clear()
    return TestClient(create_app(), base_url=support.HOME, follow_redirects=False)


@pytest.fixture(scope="session")
def starter_model() -> Path:
    """The starter model's folder, brought once and kept between test runs."""
    folder = support.kept_models_folder()
    try:
        return pull(STARTER_MODEL, folder).parent
    except PullError as error:
        _missing(f"the starter model is not there: {error}")
        raise


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model, named 'tiny' inside a models folder that holds it only."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    support.save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def live_stack(tiny_model_dir: Path) -> Iterator[str]:
    """The address of a whole `chesboard up`, with a worker and the model 'tiny'."""
    with support.running_stack(tiny_model_dir.parent) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium. Not for the whole session: its event loop would be in others' way."""
    executable = support.find_chromium()
    if executable is None:
        _missing("no Chromium is installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=support.CHROMIUM_ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture
def browser_errors() -> list[str]:
    """What the browser complained of. A test that provokes a complaint takes it out of here."""
    return []


@pytest.fixture
def browser_page(browser: "Browser", browser_errors: list[str]) -> "Iterator[Page]":
    """A page in a fresh context; any error that the browser reports fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()

    def on_console(message: "ConsoleMessage") -> None:
        if message.type == "error":
            browser_errors.append(f"{message.text} ({message.location['url']})")

    page.on("pageerror", lambda error: browser_errors.append(f"uncaught: {error}"))
    page.on("console", on_console)
    yield page
    context.close()
    assert browser_errors == []
