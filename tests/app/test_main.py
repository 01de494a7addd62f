"""The application's frame: what is served, how fast it starts, and that all JSON is JSON."""

import gzip
import json
import re
import subprocess
import sys

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from app.main import create_app
from app.web import static


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app()


@pytest.fixture
def http(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost:8000")


def test_web_process_never_imports_what_the_worker_computes_with() -> None:
    code = (
        "import sys, app.main; app.main.create_app();"
        "print([name for name in ('torch', 'transformers', 'worker') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_threads_of_a_web_process_take_short_turns() -> None:
    """Whoever makes an export would hold up everybody's requests at each turn."""
    code = "import sys, app.main; app.main.serve(); print(sys.getswitchinterval())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.001


def test_openapi_lists_the_calls_and_the_page_shows_them(http: TestClient) -> None:
    openapi = http.get("/api/v1/openapi.json").json()
    assert openapi["info"]["title"] == "Chesboard"
    page = http.get("/docs").text
    for path in openapi["paths"]:
        assert path in page
    # Nothing is loaded from elsewhere.
    assert all(address.startswith("/") for address in re.findall(r'(?:src|href)="([^#"]+)', page))


def test_static_files_are_revalidated(http: TestClient) -> None:
    first = http.get("/static/style.css")
    assert first.headers["cache-control"] == "no-cache"
    again = http.get("/static/style.css", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


def test_plotly_comes_from_its_wheel_and_is_kept_by_the_browser(http: TestClient) -> None:
    answer = http.get(static.PLOTLY_URL, headers={"accept-encoding": "gzip"})
    assert answer.content.lstrip().startswith(b"/**\n* plotly.js v")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 2_000_000
    plain = http.get(static.PLOTLY_URL, headers={"accept-encoding": "identity"})
    assert plain.content == answer.content
    assert gzip.decompress(static._plotly_gzipped()) == plain.content


def test_json_is_compressed_and_event_streams_are_not(app: FastAPI, http: TestClient) -> None:
    from fastapi.responses import StreamingResponse

    @app.get("/api/v1/stream", response_class=StreamingResponse)
    def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"data: x\n\n" * 500]), media_type="text/event-stream")

    packed = http.get("/api/v1/openapi.json", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    live = http.get("/api/v1/stream", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in live.headers


def test_nan_and_infinity_are_null_in_answers(app: FastAPI, http: TestClient) -> None:
    class Numbers(BaseModel):
        values: list[float]
        loose: dict[str, object]

    @app.get("/api/v1/numbers")
    def numbers() -> Numbers:
        bad = [float("nan"), float("inf"), float("-inf"), 1.5]
        return Numbers(values=bad, loose={"bad": bad})

    body = json.loads(http.get("/api/v1/numbers").text, parse_constant=pytest.fail)
    assert body == {
        "values": [None, None, None, 1.5],
        "loose": {"bad": [None, None, None, 1.5]},
    }


def test_every_call_of_the_api_declares_what_it_answers() -> None:
    """Only a declared answer is written with NaN as null; any other would break on one."""
    openapi = create_app().openapi()
    assert len(openapi["paths"]) > 5
    for path, calls in openapi["paths"].items():
        for method, call in calls.items():
            for status, answer in call["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema")
                assert schema != {}, f"{method} {path} {status} declares no schema"


def test_api_has_one_prefix() -> None:
    paths = create_app().openapi()["paths"]
    assert {path for path in paths if not path.startswith("/api/v1/")} == {"/healthz"}
