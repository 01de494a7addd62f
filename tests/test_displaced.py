"""*Displaced* means the same in Python, in SQL (PostgreSQL) and in JavaScript (node)."""

import base64
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import playwright
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Double, func, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.store.displaced import displaced_sql
from app.store.runs import ReferenceLogprob, Run
from chesboard.records import STILL_NATS, displaced
from tests.app import factories

Changes = tuple[float | None, float | None]
"""(change of log p(y+), change of log p(y-)), in nats."""

MODULE = Path(__file__).parents[1] / "static/lib/displaced.js"
NODE = (
    Path(playwright.__file__).parent
    / "driver"
    / ("node.exe" if sys.platform == "win32" else "node")
)
INF, NAN = math.inf, math.nan
AROUND = [
    sign * value
    for sign in (1, -1)
    for value in (
        STILL_NATS,
        math.nextafter(STILL_NATS, 0),
        math.nextafter(STILL_NATS, 1),
        2 * STILL_NATS,
    )
]
VALUES = [None, NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 5e-324, -sys.float_info.max, *AROUND]
VALUES.append(sys.float_info.max)


class Script:
    """static/lib/displaced.js in a node process: one line of JSON in, one out."""

    def __init__(self) -> None:
        url = "data:text/javascript;base64," + base64.b64encode(MODULE.read_bytes()).decode()
        # JSON has no NaN and no infinity: numbers travel as the strings that Number() reads.
        program = f"""
            import {{ createInterface }} from "node:readline";
            const {{ displaced }} = await import("{url}");
            const number = (text) => (text === null ? null : Number(text));
            for await (const line of createInterface({{ input: process.stdin }})) {{
              const found = JSON.parse(line).map(([a, b]) => displaced(number(a), number(b)));
              console.log(JSON.stringify(found));
            }}
        """
        self._process = subprocess.Popen(
            [NODE, "--input-type=module", "-e", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, pairs: Sequence[Changes]) -> list[bool]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([[_text(a), _text(b)] for a, b in pairs]), file=self._process.stdin)
        self._process.stdin.flush()
        found: list[bool] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


def _text(value: float | None) -> str | None:
    return None if value is None else repr(value).replace("inf", "Infinity").replace("nan", "NaN")


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.close()


def in_sql(pairs: Sequence[Changes]) -> list[bool]:
    columns = [array([pair[side] for pair in pairs], type_=Double) for side in (0, 1)]
    rows = (
        func.unnest(*(column.cast(ARRAY(Double)) for column in columns))
        .table_valued("preferred", "dispreferred", with_ordinality="number")
        .render_derived()
    )
    found = displaced_sql(rows.c.preferred, rows.c.dispreferred)
    with transaction() as session:
        return list(session.scalars(select(found).order_by(rows.c.number)))


numbers = st.one_of(
    st.none(),
    st.sampled_from(VALUES),
    st.floats(),
    st.floats(-3 * STILL_NATS, 3 * STILL_NATS),
    st.floats(-50, 50),
)


@pytest.mark.usefixtures("database")
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=50))
@example(pairs=list(product(VALUES, VALUES)))
def test_python_sql_and_javascript_agree(script: Script, pairs: list[Changes]) -> None:
    expected = [displaced(*pair) for pair in pairs]
    assert in_sql(pairs) == expected
    assert script(pairs) == expected


@pytest.mark.parametrize(
    ("preferred_change", "dispreferred_change", "expected"),
    [
        (-1.0, -2.0, True),
        (-1.0, -0.5, False),
        (1.0, -1.0, False),
        (-STILL_NATS, -1.0, False),
        (math.nextafter(-STILL_NATS, -1), -1.0, True),
        (-1.0, -1.0 - STILL_NATS / 2, False),
        (-1.0, -1.0 - 2 * STILL_NATS, True),
        (0.0, -1.0, False),
        (-1.0, -INF, True),
        (-INF, -1.0, False),
        (-INF, -INF, False),
        (-INF, INF, False),
        (INF, -1.0, False),
        (NAN, -1.0, False),
        (-1.0, NAN, False),
        (None, -1.0, False),
        (-1.0, None, False),
        (None, None, False),
    ],
)
def test_displaced_is_a_loss_of_y_plus_while_the_margin_grows(
    preferred_change: float | None, dispreferred_change: float | None, expected: bool
) -> None:
    assert displaced(preferred_change, dispreferred_change) is expected


# Changes of y+, with y- losing 2 nats: below, at, and beyond the threshold; and a NaN.
LOSSES = {0: -STILL_NATS / 2, 1: -STILL_NATS, 2: -2 * STILL_NATS, 3: -1.0, 4: NAN}


@pytest.fixture
def run(session: Session) -> Run:
    """A training run that watched and measured pairs with these changes."""
    dataset = factories.dataset(session, len(LOSSES))
    run = factories.run(session, dataset.id, status="succeeded")
    for pair, change in LOSSES.items():
        factories.probe(session, run.id, pair)
        factories.probe_step(
            session, run.id, pair, 0, preferred_logprobs=[0.0], dispreferred_logprobs=[0.0]
        )
        factories.probe_step(
            session,
            run.id,
            pair,
            1,
            preferred_logprobs=[change],
            dispreferred_logprobs=[-2.0],
            preferred_change=change,
            dispreferred_change=-2.0,
        )
        session.add(
            ReferenceLogprob(
                run_id=run.id,
                pair=pair,
                preferred=0.0,
                dispreferred=0.0,
                final_preferred=change,
                final_dispreferred=-2.0,
            )
        )
    session.commit()
    return run


def test_every_part_of_the_web_side_applies_the_threshold(client: TestClient, run: Run) -> None:
    def get(path: str, **query: bool) -> dict[str, Any]:
        answer = client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    expected = [pair for pair, change in LOSSES.items() if displaced(change, -2.0)]
    assert expected == [2, 3]
    measured = get(f"/runs/{run.id}/displacement")["items"]
    assert [item["pair"] for item in measured if item["displaced"]] == expected
    queue = get(f"/datasets/{run.dataset_id}/reviews", displaced=True)["items"]
    assert [item["pair"] for item in queue] == expected
    others = get(f"/datasets/{run.dataset_id}/reviews", displaced=False)["items"]
    assert [item["pair"] for item in others] == [0, 1, 4]
    # Of the four pairs with finite changes.
    assert get(f"/runs/{run.id}/probes/bands")["displaced_fraction"][1] == 2 / 4
    shown = [get(f"/runs/{run.id}/probes/{pair}")["displaced"] for pair in LOSSES]
    assert shown == [pair in expected for pair in LOSSES]
    assert "2 of the 5 watched pairs are displaced" in get(f"/runs/{run.id}")["verdict"]
