"""*Displaced* means the same in Python, in SQL (PostgreSQL) and in JavaScript (node)."""

import base64
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import playwright
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Double, func, select
from sqlalchemy.dialects.postgresql import ARRAY, array

from app.core.database import transaction
from app.store.displaced import displaced_sql
from chesboard.records import STILL_NATS, displaced

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
