"""Exports: what goes out comes in again as it was, whatever it holds; and the manifest."""

import csv
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.database import transaction
from app.datasets.exporting import Export, as_trl
from app.store.reviews import PairVersion, Review
from app.store.scores import Flag
from tests.app import factories
from tests.app.datasets.test_datasets import API, jsonl, upload
from tests.chesboard.formats.test_forms import ROWS

FORMATS = ["jsonl", "csv", "parquet"]
FORMS = ["trl", "original"]


def stored_pairs(client: TestClient, dataset_id: int, *, meta: bool = True) -> list[dict[str, Any]]:
    """All pairs as they are stored; without the row of the file that each came from."""
    items = client.get(f"{API}/datasets/{dataset_id}/pairs?limit=500").json()["items"]
    for item in items:
        item["meta"].pop("row")
        if not meta:
            item.pop("meta")
    return items


def exported(client: TestClient, dataset_id: int, **query: Any) -> bytes:
    answer = client.get(f"{API}/datasets/{dataset_id}/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


def round_trip(client: TestClient, rows: list[Any], format: str, form: str) -> None:
    first = upload(client, jsonl(*rows)).json()
    data = exported(client, first["id"], format=format, form=form)
    again = upload(client, data, f"again.{format}")
    assert again.status_code == 201, again.json()
    assert again.json()["rejected"] == 0, again.json()["errors"]
    keeps_all = form == "original"
    assert stored_pairs(client, again.json()["id"], meta=keeps_all) == stored_pairs(
        client, first["id"], meta=keeps_all
    )
    # And what is exported of that is the same file, byte for byte where it is text.
    if format != "parquet":
        assert exported(client, again.json()["id"], format=format, form=form) == data


# --- whatever the rows hold -------------------------------------------------------------------

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("=+-@'\"\t\r\n,;[{"),
    max_size=12,
)
SAID = TEXT.map(lambda text: f"{text}.")  # not empty
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": SAID})
CHAT = st.tuples(st.lists(MESSAGE, max_size=3), SAID).map(
    lambda parts: [*parts[0], {"role": "user", "content": parts[1]}]
)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAME = st.sampled_from(["x", "y", "row", "x:json", "chesboard:quoted", "'=a:quoted", "=1"]) | TEXT
OTHERS = st.dictionaries(
    NAME.filter(lambda name: name.strip().casefold() not in {"prompt", "chosen", "rejected"}),
    VALUE,
    max_size=3,
)


def pair_of(prompt: Any, ours: str, theirs: str, others: dict[str, Any]) -> dict[str, Any]:
    return {**others, **as_trl(prompt, ours, theirs)}


PAIR = st.tuples(SAID | CHAT, SAID, SAID, OTHERS).filter(lambda parts: parts[1] != parts[2])
ROW = PAIR.map(lambda parts: pair_of(*parts))

run_with_retry = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("format", ["jsonl", "csv"])
@run_with_retry
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_round_trip_loses_nothing(
    client: TestClient, rows: list[Any], format: str, form: str
) -> None:
    round_trip(client, rows, format, form)


@pytest.mark.parametrize("form", FORMS)
@settings(run_with_retry, max_examples=8)  # each starts two processes
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_round_trip_through_parquet_loses_nothing(
    client: TestClient, rows: list[Any], form: str
) -> None:
    round_trip(client, rows, "parquet", form)


@pytest.mark.parametrize("name", ROWS)
def test_every_form_comes_back_as_it_came(client: TestClient, name: str) -> None:
    row = ROWS[name][0]
    stored = upload(client, jsonl(row)).json()
    assert json.loads(exported(client, stored["id"], form="original")) == row
    round_trip(client, [row, row | {"more": 1}], "csv", "original")


def test_original_columns_stand_in_their_order(client: TestClient) -> None:
    row = {"id": 7, "chosen": "a", "zzz": None, "rejected": "b", "prompt": "c"}
    stored = upload(client, jsonl(row)).json()
    assert list(json.loads(exported(client, stored["id"], form="original"))) == list(row)


# --- the three kinds --------------------------------------------------------------------------


def test_csv_is_a_plain_table_where_the_pairs_are_texts(client: TestClient) -> None:
    rows = [{"prompt": "a,b", "chosen": 'say "x"', "rejected": "two\nlines"}]
    stored = upload(client, jsonl(*rows)).json()
    data = exported(client, stored["id"], format="csv").decode()
    assert list(csv.DictReader(io.StringIO(data, newline=""))) == rows


def test_cell_that_a_spreadsheet_would_run_is_quoted_and_said_to_be(client: TestClient) -> None:
    rows = [
        {"prompt": "=1+1", "chosen": "@SUM(A1)", "rejected": "'tis"},
        {"prompt": "a", "chosen": "- one\n- two", "rejected": "\t=2"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]
    stored = upload(client, jsonl(*rows)).json()
    data = exported(client, stored["id"], format="csv").decode()
    found = list(csv.DictReader(io.StringIO(data, newline="")))
    assert [row["prompt"] for row in found] == ["'=1+1", "a", "a"]
    assert found[0]["rejected"] == "'tis"
    assert [row["chesboard:quoted"] for row in found] == [
        '["prompt", "chosen"]',
        '["chosen", "rejected"]',
        "",
    ]
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in found for cell in row.values())
    round_trip(client, rows, "csv", "trl")


def test_columns_that_are_called_like_our_conventions_are_kept(client: TestClient) -> None:
    texts = {"prompt": "a", "chosen": "b", "rejected": "c"}
    odd = {
        "x:json": "[1]",
        "x": [1],
        "chesboard:quoted": "no",
        "=y": "1",
        "'=y:quoted": "2",
        "": "",
    }
    for others in (odd, *({name: value} for name, value in odd.items())):
        round_trip(client, [texts | others], "csv", "original")


def test_apostrophe_of_someone_else_s_csv_is_kept(client: TestClient) -> None:
    stored = upload(client, b"prompt,chosen,rejected\n'=1,'tis,b\n", "a.csv").json()
    [pair] = stored_pairs(client, stored["id"])
    assert (pair["prompt"], pair["preferred"]) == ("'=1", "'tis")


def test_parquet_has_types_that_trainers_load(client: TestClient) -> None:
    chat = ROWS["TRL, conversational, explicit prompt"][0]
    stored = upload(client, jsonl(chat | {"score": 1.5, "n": 3, "ok": True})).json()
    data = exported(client, stored["id"], format="parquet", form="original")
    table = pq.read_table(io.BytesIO(data))
    types = {field.name: str(field.type) for field in table.schema}
    messages = "list<element: struct<role: string, content: string>>"
    assert types["prompt"] == types["chosen"] == messages
    assert (types["score"], types["n"], types["ok"]) == ("double", "int64", "bool")
    assert table.to_pylist()[0]["prompt"] == chat["prompt"]


def test_rows_with_endless_different_columns_make_no_table(client: TestClient) -> None:
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c"} | {f"{n}-{k}": k for k in range(50)}
        for n in range(50)
    ]
    stored = upload(client, jsonl(*rows)).json()
    answer = client.get(f"{API}/datasets/{stored['id']}/export?format=csv&form=original")
    assert answer.status_code == 422
    assert "Export them as JSONL" in answer.json()["detail"]
    round_trip(client, rows, "jsonl", "original")


# --- what is left out, and the manifest -------------------------------------------------------


def reviewed_dataset() -> int:
    """Four pairs: kept, dropped, flagged by a score run, and edited."""
    with transaction() as session:
        pairs = [(f"Question {n}", "No", "Never") for n in range(4)]
        dataset = factories.dataset(session, pairs, source_sha256="ab" * 32)
        run = factories.run(session, dataset.id, kind="score", status="succeeded")
        session.add_all(
            [
                Review(dataset_id=dataset.id, pair=0, verdict="keep", version=1),
                Review(dataset_id=dataset.id, pair=1, verdict="drop", version=1),
                Flag(dataset_id=dataset.id, pair=2, score_run=run.id, measure="ln_ches", value=0.1),
                PairVersion(
                    dataset_id=dataset.id,
                    pair=3,
                    version=1,
                    prompt="Question 3",
                    preferred="Nope",
                    dispreferred="Never",
                ),
            ]
        )
        return dataset.id


def prompts(data: bytes) -> list[str]:
    return [json.loads(line)["prompt"] for line in data.splitlines()]


def test_dropped_and_flagged_pairs_are_left_out(client: TestClient) -> None:
    dataset = reviewed_dataset()
    assert prompts(exported(client, dataset, exclude="drop")) == [
        "Question 0",
        "Question 2",
        "Question 3",
    ]
    assert prompts(exported(client, dataset, exclude=["drop", "flagged"])) == [
        "Question 0",
        "Question 3",
    ]


def test_manifest_says_how_the_export_came_about(client: TestClient) -> None:
    dataset = reviewed_dataset()
    query = {"exclude": ["drop", "flagged"], "format": "csv", "form": "original"}
    manifest = client.get(f"{API}/datasets/{dataset}/export/manifest", params=query).json()
    assert manifest["exclude"] == ["drop", "flagged"]
    assert (manifest["format"], manifest["form"]) == ("csv", "original")
    assert (manifest["source_pairs"], manifest["kept"], manifest["left_out"]) == (4, 2, 2)
    assert manifest["verdicts"] == {"drop": 1, "keep": 1}
    assert manifest["source_sha256"] == "ab" * 32
    [run] = manifest["score_runs"]
    assert (run["model"], run["measure"], run["flagged"]) == ("tiny", "ln_ches", 1)
    assert manifest["exported_at"]


def test_edited_pair_is_exported_as_it_is_now(client: TestClient) -> None:
    row = {
        "question": "Q?",
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": " No",
    }
    stored = upload(client, jsonl(row)).json()["id"]
    with transaction() as session:
        from app.store.datasets import Pair

        pair = session.get_one(Pair, (stored, 0))
        session.add(
            PairVersion(
                dataset_id=stored,
                pair=0,
                version=1,
                prompt=pair.prompt,
                preferred=pair.preferred,
                dispreferred=pair.dispreferred,
            )
        )
        pair.preferred, pair.version = "Certainly", 2
    now = json.loads(exported(client, stored, form="original"))
    assert now == row | {"answer_matching_behavior": " Certainly"}
    assert client.get(f"{API}/datasets/{stored}/export/manifest").json()["edited"] == 1


def test_rules_name_flags_and_verdicts_apart() -> None:
    rules = Export(1, exclude=("flagged", "drop", "unsure")).rules()
    assert (rules.exclude_flagged, rules.exclude_verdicts) == (True, ["drop", "unsure"])
