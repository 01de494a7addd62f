"""odpo's offsets as they are read of a dataset: page by page, of some of its pairs or of all."""

import math
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, update
from sqlalchemy.orm import Session

from app.store import offsets
from app.store.datasets import Dataset, Pair
from app.store.offsets import read_offsets
from tests.app import factories

METAS: list[dict[str, Any]] = [
    {"score_chosen": 2.0 + number, "score_rejected": "1", "note": "n" * number}
    for number in range(7)
]
METAS[2] = {"chosen-rating": 8, "rejected-rating": 3.5}
METAS[4] = {"note": "without scores"}


@pytest.fixture
def dataset_id(session: Session) -> int:
    made: int = factories.dataset(session, len(METAS)).id
    for pair, meta in enumerate(METAS):
        session.execute(
            update(Pair).where(Pair.dataset_id == made, Pair.pair == pair).values(meta=meta)
        )
    session.commit()
    return made


EXPECTED = [math.log(number + 1) for number in range(7)]
EXPECTED[2], EXPECTED[4] = math.log(4.5), math.nan


@pytest.mark.parametrize("page", [2, 3, 50_000])
def test_pages_together_hold_every_pair_once(
    session: Session, dataset_id: int, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(offsets, "PAGE", page)
    found = read_offsets(session, dataset_id, "log_difference")
    assert found.pairs.tolist() == list(range(7))
    np.testing.assert_allclose(found.values, EXPECTED)
    assert found.reasons == {"unscored": 1}
    assert found.columns == {
        ("score_chosen", "score_rejected"): 5,
        ("chosen-rating", "rejected-rating"): 1,
    }


@pytest.mark.parametrize("others", [0, 4])
@pytest.mark.parametrize("page", [2, 50_000])
def test_of_some_pairs_no_other_counts(
    session: Session, dataset_id: int, monkeypatch: pytest.MonkeyPatch, page: int, others: int
) -> None:
    monkeypatch.setattr(offsets, "PAGE", page)
    monkeypatch.setattr(offsets, "MOST_OTHERS", others)
    some = read_offsets(session, dataset_id, "log_difference", [6, 0, 2, 5])
    assert some.pairs.tolist() == [0, 2, 5, 6]
    np.testing.assert_allclose(some.values, [EXPECTED[pair] for pair in (0, 2, 5, 6)])
    assert some.reasons == {}
    assert some.columns.total() == 4


def test_many_columns_are_read_by_several_statements(
    session: Session, dataset_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "COLUMNS", 1)
    found = read_offsets(session, dataset_id, "log_difference")
    np.testing.assert_allclose(found.values, EXPECTED)


def test_a_page_takes_as_many_statements_however_many_pairs_it_has(
    session: Session, dataset_id: int
) -> None:
    statements: list[str] = []  # the names of the columns, then what is in them

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    kept = session.get_one(Dataset, dataset_id)
    event.listen(session.get_bind(), "before_cursor_execute", count)
    try:
        for pairs in (range(7), range(2)):
            read_offsets(session, dataset_id, "log_difference", list(pairs))
    finally:
        event.remove(session.get_bind(), "before_cursor_execute", count)
    assert kept.columns is None
    assert len(statements) == 2 * 2


def test_a_dataset_without_the_asked_pairs_has_no_offsets(
    session: Session, dataset_id: int
) -> None:
    found = read_offsets(session, dataset_id, "log_ratio", [])
    assert (len(found.pairs), len(found.values), found.reasons) == (0, 0, {})
    found = read_offsets(session, dataset_id, "log_ratio", [4])
    assert found.reasons == {"unscored": 1}
