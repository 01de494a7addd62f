"""A server that answers the demo's requests, and does every run at once."""

import json
from typing import Any

import httpx

from app.local.demo.api import Run

URL = "http://127.0.0.1:8000"

PROBE = {
    "preferred_change": [0.0, -0.2],
    "onset_step": 1,
    "fork": {
        "preferred_prob": [0.091, 0.075],
        "groups": {"affirmative": [0.584, 0.712], "negative": [0.3, 0.2]},
    },
    "gainers": [{"token": "Yes", "change": 0.11}],
}

ANSWERS = [
    {"step": 0, "text": "No", "ended": True},
    {"step": 30, "text": "Yes", "ended": True},
]


class FakeApi:
    """runs: those it knows; requests for more are answered with finished ones."""

    def __init__(self, *, status: str = "succeeded") -> None:
        self.runs: list[Run] = []
        self.status = status
        self.client = httpx.Client(
            base_url=f"{URL}/api/v1", transport=httpx.MockTransport(self._answer)
        )

    def add_run(self, wanted: dict[str, Any]) -> Run:
        run = {
            **wanted,
            "id": len(self.runs) + 1,
            "status": self.status,
            "error": {"message": "no memory"} if self.status == "failed" else None,
            "verdict": f"What {wanted['name']} did.",
            "displaced": "over “no”" in wanted["name"],
        }
        self.runs.append(run)
        return run

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        match request.method, path:
            case "POST", "/samples/sentences":
                return httpx.Response(201, json={"id": 1})
            case "POST", "/samples/yes-no-words":
                return httpx.Response(200, json={"id": 2})
            case "POST", "/datasets":
                return httpx.Response(201, json={"id": 3})
            case "POST", "/datasets/1/flags" | "/datasets/2/flags":
                return httpx.Response(200, json={})
            case "GET", "/datasets/2/pairs":
                words = ["No", "Yes", *["No"] * 12, "Maybe"]
                items = [{"pair": i, "preferred": word} for i, word in enumerate(words)]
                return httpx.Response(200, json={"items": items})
            case "POST", "/runs":
                return httpx.Response(201, json=self.add_run(json.loads(request.content)))
            case "GET", "/runs":
                of = int(request.url.params["dataset_id"])
                items = [run for run in self.runs if run["dataset_id"] == of]
                return httpx.Response(200, json={"items": items})
            case "GET", _ if path.endswith("/answers"):
                return httpx.Response(200, json={"items": ANSWERS})
            case "GET", _ if "/probes/" in path:
                return httpx.Response(200, json=PROBE)
        return httpx.Response(404, text="Resource not found.")
