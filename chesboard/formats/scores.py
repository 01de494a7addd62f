"""Tables of scores as CSV, JSONL and Parquet: a row a pair, null where a value is not finite."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from chesboard.formats import table_rows
from chesboard.formats.csv_lines import csv_line
from chesboard.formats.rows import PairRow
from chesboard.records import ScoreRecord


class ScoredPair(NamedTuple):
    row: PairRow
    record: ScoreRecord


Writer = Callable[[Sequence[ScoredPair], bool], Iterator[bytes]]

KINDS = {
    "pair": "integer",
    "row": "integer",
    "ches": "number",
    "ln_ches": "number",
    "last_hidden_inner_product": "number",
    "normalized_edit_distance": "number",
    "preferred_logprob": "number",
    "dispreferred_logprob": "number",
    "implicit_gap": "number",
    "length_gap": "number",
    "head_shift": "number",
    "head_cosine": "number",
    "preferred_grad_norm": "number",
    "dispreferred_grad_norm": "number",
    "preferred_tokens": "integer",
    "dispreferred_tokens": "integer",
    "prompt_tokens": "integer",
    "cut_tokens": "integer",
}
"""The columns, named as in the server's exports; `row` is where the pair stands in its file."""
TEXTS = ("prompt", "preferred", "dispreferred")
"""The columns of texts, on request. A prompt of chat messages is JSON in CSV and Parquet."""


def write_csv(scored: Sequence[ScoredPair], with_text: bool) -> Iterator[bytes]:
    names = [*KINDS, *(TEXTS if with_text else ())]
    yield csv_line(names).encode()
    for pair in scored:
        cells = _cells(pair)
        yield csv_line(_flat(cells[name]) for name in names).encode()


def write_jsonl(scored: Sequence[ScoredPair], with_text: bool) -> Iterator[bytes]:
    names = [*KINDS, *(TEXTS if with_text else ())]
    for pair in scored:
        cells = _cells(pair)
        row = {name: cells[name] for name in names}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def write_parquet(scored: Sequence[ScoredPair], with_text: bool) -> Iterator[bytes]:
    columns = [{"name": name, "kind": kind} for name, kind in KINDS.items()]
    if with_text:
        columns += [{"name": name, "kind": "text"} for name in TEXTS]
    rows = (_cells(pair) for pair in scored)
    yield from table_rows.write(
        columns, ([_flat(cells[column["name"]]) for column in columns] for cells in rows)
    )


WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}
"""By the suffix of the file."""


def _cells(pair: ScoredPair) -> dict[str, Any]:
    cells = asdict(pair.record) | {name: getattr(pair.row, name) for name in ("row", *TEXTS)}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in cells.items()
    }


def _flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
