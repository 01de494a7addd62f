"""Every number that two runs stored, beside each other, bit for bit."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, cast, select

from app.local.migrate import METADATA
from tests.chaos.stack import Stack

TIMES = frozenset(
    {"run_id", "revision", "recorded_at", "created_at", "tokens_per_second", "seconds"}
)
"""What says when a number was made and how fast, and differs from run to run."""

TABLES = (
    "metrics",
    "probes",
    "probe_steps",
    "probe_positions",
    "probe_position_steps",
    "probe_answers",
    "scores",
    "reference_logprobs",
    "run_selections",
    "run_findings",
    "preflight_pairs",
    "generations",
    "judgments",
    "filter_decisions",
)
OF_THE_RUN = (
    *("status", "summary", "messages", "pair_messages"),
    *("progress_done", "progress_total", "error"),
)

Row = tuple[str, ...]
"""A table's name and a row's key, as text."""


@dataclass(frozen=True, slots=True)
class Difference:
    lost: int
    doubled: int
    different: int
    examples: tuple[str, ...]


def compare(stack: Stack, calm: int, disturbed: int) -> Difference:
    """What the disturbed run lacks, has more often, or has otherwise than the calm one."""
    expected, found = everything(stack, calm), everything(stack, disturbed)
    lost = sorted(expected.keys() - found.keys())
    doubled = sorted(found.keys() - expected.keys())
    different = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    return Difference(
        len(lost),
        len(doubled),
        len(different),
        tuple(
            [f"lost: {key}" for key in lost[:3]]
            + [f"too much: {key}" for key in doubled[:3]]
            + [f"{key}: {expected[key]} became {found[key]}" for key in different[:3]]
        ),
    )


def everything(stack: Stack, run_id: int) -> dict[Row, str]:
    """All that is stored of a run, by its place; PostgreSQL writes floats to their last bit."""
    found: dict[Row, str] = {}
    with stack.connection() as connection:
        for name in TABLES:
            table = METADATA.tables[name]
            key = [c.name for c in table.primary_key if c.name != "run_id"]
            values = [c.name for c in table.c if c.name not in TIMES | set(key)]
            columns = [cast(table.c[column], Text) for column in (*key, *values)]
            rows = connection.execute(select(*columns).where(table.c.run_id == run_id))
            for row in rows:
                at = (name, *row[: len(key)])
                for column, value in zip(values, row[len(key) :], strict=True):
                    found[(*at, column)] = str(value)
        runs = METADATA.tables["runs"]
        [run] = connection.execute(select(runs).where(runs.c.id == run_id)).mappings()
        for column in OF_THE_RUN:
            found[("runs", column)] = repr(_timeless(run[column]))
    for file in sorted((stack.folder / "runs" / str(run_id) / "model").glob("*.safetensors")):
        found[("model", file.name)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMES}
    return value
