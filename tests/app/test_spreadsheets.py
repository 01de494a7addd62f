"""No download of any kind holds a cell that a spreadsheet would run."""

import csv
import io
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.csv import FORMULA_SIGNS
from app.main import create_app
from app.store.audit import NewEvent, record
from app.store.selection import record_selection
from app.store.studies import Study
from app.studies.results import Cell, Column, Result, Table
from chesboard.configs import Selection
from tests.app import factories

FORMULA = "=cmd|' /C calc'!A0"
API = "/api/v1"


def test_every_table_is_guarded_against_formulas(client: TestClient, session: Session) -> None:
    asked = {**_in_the_database(session), f"{API}/audit": "/audit"}
    assert set(asked) == _tables()
    for name, at in asked.items():
        path, _, query = at.partition("?")
        more = "" if path.endswith(".csv") else "format=csv"
        address = f"{API}{path}?{'&'.join(filter(None, (query, more)))}"
        answer = client.get(address)
        assert answer.status_code == 200, (name, answer.text)
        cells = [cell for row in csv.reader(io.StringIO(answer.text)) for cell in row]
        assert not [cell for cell in cells if _would_run(cell)], name
        if name not in OF_NUMBERS:
            assert any(cell.startswith(f"'{FORMULA}") for cell in cells), name


OF_NUMBERS = {
    f"{API}/runs/{{run_id}}/{name}"
    for name in ("metrics", "pairs", "preflight", "displacement.csv")
}


def _would_run(cell: str) -> bool:
    if not cell.startswith(FORMULA_SIGNS):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _tables() -> set[str]:
    """The paths of which there is a CSV."""
    return {
        path
        for path, calls in create_app().openapi()["paths"].items()
        if "get" in calls
        and not path.endswith("/manifest")  # JSON on the download with the same query
        and (
            path.endswith(".csv")
            or any(
                one["name"] == "format" and "csv" in one["schema"].get("enum", ())
                for one in calls["get"].get("parameters", ())
            )
        )
    }


def _in_the_database(session: Session) -> dict[str, str]:
    """What to ask for, by path: each has the formula in every text that it may have."""
    record(NewEvent(FORMULA, FORMULA, FORMULA, FORMULA, FORMULA))
    dataset = factories.dataset(session, [(FORMULA, FORMULA, f"{FORMULA} too")])
    score = factories.run(session, dataset.id, kind="score", status="succeeded")
    factories.score(session, score.id, 0, -1.0)
    train = factories.run(
        session,
        dataset.id,
        status="succeeded",
        config={"refresh_filter": {"reward_model": "judge"}},
    )
    factories.metric(session, train.id, 0)
    factories.decision(session, train.id, 0, text=FORMULA)
    factories.finding(session, train.id, 0, "same_tokens", FORMULA)
    generate = factories.run(session, dataset.id, kind="generate", status="succeeded")
    factories.generation(session, generate.id, 0, 0, FORMULA)
    judge = factories.run(
        session, dataset.id, kind="judge", config={"generate_run": generate.id}, status="succeeded"
    )
    factories.judgment(session, judge.id, 0, 0, True, 1.0, FORMULA)
    preflight = factories.run(session, dataset.id, kind="preflight", status="succeeded")
    for run in (score, train, generate, judge, preflight):
        record_selection(session, run.id, dataset.id, Selection())
    study = _study(session)
    session.commit()
    of_train: dict[str, Any] = {
        name: f"/runs/{train.id}/{name}"
        for name in ("metrics", "pairs", "findings", "filter-decisions", "displacement.csv")
    }
    of_runs = {
        **of_train,
        "scores": f"/runs/{score.id}/scores?with_text=true",
        "generations": f"/runs/{generate.id}/generations",
        "judgments": f"/runs/{judge.id}/judgments",
        "preflight": f"/runs/{preflight.id}/preflight",
    }
    return {
        **{f"{API}/runs/{{run_id}}/{name}": at for name, at in of_runs.items()},
        f"{API}/datasets/{{dataset_id}}/export": f"/datasets/{dataset.id}/export",
        f"{API}/studies/{{study_id}}/table.csv": f"/studies/{study}/table.csv",
    }


def _study(session: Session) -> int:
    column = Column(key="text", label="Text")
    cell = Cell(key="a", label=FORMULA, texts={"text": FORMULA})
    result = Result(sentences=[], tables=[Table(title=FORMULA, columns=[column], cells=[cell])])
    study = Study(
        kind="similarity", name=FORMULA, status="succeeded", plan={}, result=result.model_dump()
    )
    session.add(study)
    session.flush()
    return study.id
