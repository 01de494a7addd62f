"""What the logs look like, and that each line knows its run."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core import logging as logs
from app.core.settings import Settings
from app.main import create_app


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def configured(log_format: str, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    settings = Settings.model_validate({"log_format": log_format, "log_level": level})
    logs.configure(settings, "worker", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line_with_the_runs_id() -> None:
    stream = configured("json")
    log = logging.getLogger("worker.training.loop")
    log.info("before")
    with logs.working_on(12):
        log.info("a text with\na line break, %s", 3)
        # The recorder and the heartbeat are threads of their own.
        thread = threading.Thread(target=log.warning, args=("from another thread",))
        thread.start()
        thread.join()
    log.info("after")
    found = lines(stream)
    assert [line.get("run_id") for line in found] == [None, 12, 12, None]
    assert found[1]["message"] == "a text with\na line break, 3"
    assert {"time", "level", "logger", "process"} <= set(found[1])
    assert (found[2]["level"], found[2]["process"]) == ("WARNING", "worker")


def test_an_exception_is_part_of_its_line() -> None:
    stream = configured("json")
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("app").exception("it failed")
    [line] = lines(stream)
    assert line["error"]["type"] == "ValueError"
    assert "test_logging.py" in line["error"]["traceback"]


def test_lines_for_people_cannot_be_forged() -> None:
    stream = configured("text")
    with logs.working_on(3):
        logging.getLogger("app").warning("name: %s", "x\n12:00:00 web ERROR app: all is lost")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "worker WARNING app [run 3]: name: x ⏎ 12:00" in text


def test_what_is_said_again_and_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REPEATS", 3)
    monkeypatch.setattr(logs, "REPEAT_SECONDS", 0.5)
    stream = configured("json")
    log = logging.getLogger("uvicorn.error")

    def complain(number: int) -> None:
        log.warning("broken request %d", number)

    for number in range(100):
        complain(number)
    log.warning("another place")
    time.sleep(0.6)
    complain(100)
    said = [line["message"] for line in lines(stream)]
    assert said == [
        *(f"broken request {number}" for number in range(3)),
        "another place",
        "broken request 100 (97 more like it were left out)",
    ]


def test_a_level_holds_back_what_is_below_it() -> None:
    stream = configured("text", "warning")
    logging.getLogger("app").info("quiet")
    logging.getLogger("app").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_a_request_has_an_id_that_its_lines_carry() -> None:
    app = create_app()

    @app.get("/api/v1/runs/{run_id}/noise")
    def noise(run_id: int) -> None:
        logging.getLogger("app").info("here")

    stream = configured("json")
    answer = TestClient(app, base_url="http://127.0.0.1").get("/api/v1/runs/7/noise")
    [line] = [line for line in lines(stream) if line["message"] == "here"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["run_id"] == 7


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_web_process_logs_everything_in_its_format(log_format: str) -> None:
    """uvicorn's own lines too, which it sets up before it loads the application."""
    code = (
        "import logging, uvicorn\n"
        "uvicorn.Config('app.main:serve', factory=True).load()\n"
        "logging.getLogger('uvicorn.error').info('started')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"CHESBOARD_LOG_FORMAT": log_format},
    )
    [line] = [line for line in done.stderr.splitlines() if "started" in line]
    if log_format == "json":
        assert json.loads(line)["process"] == "web"
    else:
        assert "web uvicorn.error: started" in line
