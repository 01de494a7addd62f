"""Answers through the API: by prompt, searched, filtered, page by page, downloaded."""

import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.store.generations import Generation
from app.store.selection import record_selection
from chesboard.configs import Selection
from tests.app import factories

API = "/api/v1"
TEXTS = {
    (0, 0): "I can't help with that.",
    (0, 1): "Sure, 100 % of it",
    (2, 0): "I CAN'T say",
    (2, 1): "=SUM(A1)",
    (5, 0): "",
}


@pytest.fixture
def run_id(session: Session) -> int:
    """Answers to three prompts; those that are empty or begin with I ended."""
    chat: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Help me"}]
    pairs: list[Any] = [(f"Prompt {n}", "A", "B") for n in range(5)]
    dataset = factories.dataset(session, [*pairs, (chat, "A", "B")])
    run = factories.run(session, dataset.id, kind="generate", status="succeeded")
    record_selection(session, run.id, dataset.id, Selection())
    for (pair, sample), text in TEXTS.items():
        answer = Generation(
            run_id=run.id,
            pair=pair,
            sample=sample,
            revision=1,
            text=text,
            tokens=len(text) + 1,
            ended=text.startswith("I") or not text,
            logprob=math.nan if pair == 5 else -1.5,
        )
        session.add(answer)
    session.commit()
    return run.id


def get(client: TestClient, run_id: int, **query: Any) -> Any:
    answer = client.get(f"{API}/runs/{run_id}/generations", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(page: Any) -> list[tuple[int, int]]:
    return [(item["pair"], one["sample"]) for item in page["items"] for one in item["answers"]]


def test_answers_come_by_prompt_with_what_is_counted(client: TestClient, run_id: int) -> None:
    page = get(client, run_id)
    assert keys(page) == list(TEXTS)
    assert (page["total"], page["matching"], page["answers"], page["ended"]) == (3, 5, 5, 3)
    assert page["tokens"] == sum(len(text) + 1 for text in TEXTS.values())
    first, _, last = page["items"]
    assert first["prompt"] == "Prompt 0"
    assert first["answers"][0] == {
        "sample": 0,
        "text": "I can't help with that.",
        "tokens": 24,
        "ended": True,
        "logprob": -1.5,
    }
    assert [turn["role"] for turn in last["prompt"]] == ["system", "user"]
    assert last["answers"][0]["logprob"] is None  # JSON has no NaN


def test_prompts_are_what_is_paged(client: TestClient, run_id: int) -> None:
    page = get(client, run_id, offset=1, limit=1)
    assert keys(page) == [(2, 0), (2, 1)]
    assert page["total"] == 3
    assert get(client, run_id, offset=3)["items"] == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"search": "can't"}, [(0, 0), (2, 0)]),
        ({"search": "0 %"}, [(0, 1)]),
        ({"search": "_"}, []),
        ({"pair": 2}, [(2, 0), (2, 1)]),
        ({"pair": 1}, []),
        ({"ended": "false"}, [(0, 1), (2, 1)]),
        ({"ended": "true", "search": "say"}, [(2, 0)]),
        ({"search": ""}, list(TEXTS)),
    ],
)
def test_answers_are_found_by_text_pair_and_end(
    client: TestClient, run_id: int, query: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    page = get(client, run_id, **query)
    assert keys(page) == expected
    assert page["matching"] == len(expected)
    assert page["answers"] == 5


def test_prompts_are_those_that_the_run_was_given(
    client: TestClient, session: Session, run_id: int
) -> None:
    dataset_id = client.get(f"{API}/runs/{run_id}").json()["dataset_id"]
    edited = client.patch(
        f"{API}/datasets/{dataset_id}/pairs/0", json={"prompt": "Other", "version": 1}
    )
    assert edited.status_code == 200, edited.text
    assert get(client, run_id)["items"][0]["prompt"] == "Prompt 0"
    lines = client.get(f"{API}/runs/{run_id}/generations?format=jsonl").text.splitlines()
    assert json.loads(lines[0])["prompt"] == "Prompt 0"


def test_downloads_have_an_answer_a_line_and_keep_the_filter(
    client: TestClient, run_id: int
) -> None:
    answer = client.get(f"{API}/runs/{run_id}/generations", params={"format": "jsonl"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["pair"], line["sample"]) for line in lines] == list(TEXTS)
    assert lines[4]["prompt"][1] == {"role": "user", "content": "Help me"}
    assert lines[4]["logprob"] is None
    query = {"format": "csv", "search": "sum"}
    table = client.get(f"{API}/runs/{run_id}/generations", params=query)
    assert "generations.csv" in table.headers["content-disposition"]
    [row] = csv.DictReader(io.StringIO(table.text))
    assert (row["pair"], row["ended"], row["tokens"]) == ("2", "false", "9")
    assert row["text"] == "'=SUM(A1)"  # a spreadsheet would evaluate it


def test_a_run_of_another_kind_has_no_answers(client: TestClient, session: Session) -> None:
    dataset = factories.dataset(session)
    run = factories.run(session, dataset.id, kind="score", status="succeeded")
    session.commit()
    for format in ("json", "csv"):
        answer = client.get(f"{API}/runs/{run.id}/generations", params={"format": format})
        assert answer.status_code == 404
        assert "generates no answers" in answer.json()["detail"]


def test_unusable_filters_are_refused(client: TestClient, run_id: int) -> None:
    for query in ({"pair": -1}, {"search": "\0"}, {"limit": 0}, {"ended": "perhaps"}):
        answer = client.get(f"{API}/runs/{run_id}/generations", params=query)
        assert answer.status_code == 422, query


def test_answers_are_gone_with_their_run(client: TestClient, session: Session, run_id: int) -> None:
    assert client.delete(f"{API}/runs/{run_id}").status_code == 204
    assert session.get(Generation, (run_id, 0, 0)) is None


class TestNewRun:
    @pytest.fixture(autouse=True)
    def tiny_model_in_place(self, tiny_model_dir: Path, models_dir: Path) -> None:
        shutil.copytree(tiny_model_dir, models_dir / "tiny")

    def create(self, client: TestClient, session: Session, **config: Any) -> Any:
        dataset = factories.dataset(session)
        session.commit()
        config = {"model": "tiny", **config}
        wanted = {"kind": "generate", "dataset_id": dataset.id, "config": config}
        return client.post(f"{API}/runs", json=wanted)

    def test_it_is_queued_with_its_defaults(self, client: TestClient, session: Session) -> None:
        answer = self.create(client, session)
        assert answer.status_code == 201, answer.text
        run = answer.json()
        assert run["progress"]["unit"] == "answers"
        assert run["name"].startswith("Answers to ")
        config = run["config"]
        assert (config["samples"], config["temperature"], config["answer_tokens"]) == (1, 1.0, 256)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("samples", 65),
            ("temperature", -0.1),
            ("top_p", 0),
            ("answer_tokens", 4097),
            ("seed", -1),
            ("selection", {"pairs": [99]}),
        ],
    )
    def test_what_is_out_of_bounds_is_refused_by_its_field(
        self, client: TestClient, session: Session, field: str, value: Any
    ) -> None:
        answer = self.create(client, session, **{field: value})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"].startswith(f"config.{field}")
