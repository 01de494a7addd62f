"""Lists of any length as one parameter, as PostgreSQL compares them."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import among, rows_among
from app.store.datasets import Pair
from tests.app import factories

ORDINALS = st.lists(st.integers(-2, 12), max_size=8)
on_one_database = settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_one_database
@given(ORDINALS)
def test_a_value_is_among_a_list_as_in_python(session: Session, wanted: list[int]) -> None:
    dataset = factories.dataset(session, pairs=6)
    query = select(Pair.pair).where(Pair.dataset_id == dataset.id, among(Pair.pair, wanted))
    assert sorted(session.scalars(query)) == sorted({one for one in wanted if 0 <= one < 6})
    session.rollback()


@on_one_database
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), max_size=6))
def test_a_row_is_among_rows_as_in_python(session: Session, wanted: list[tuple[int, int]]) -> None:
    dataset = factories.dataset(session, pairs=6)
    keys = rows_among((Pair.pair, Pair.version), wanted)
    query = select(Pair.pair).where(Pair.dataset_id == dataset.id, keys)
    versions = {row.pair: row.version for row in session.execute(select(Pair.pair, Pair.version))}
    assert set(session.scalars(query)) == {
        pair for pair, version in wanted if versions.get(pair) == version
    }
    session.rollback()


def test_more_values_than_a_statement_has_parameters(session: Session) -> None:
    dataset = factories.dataset(session, pairs=6)
    many = range(3, 70_000)
    one = select(Pair.pair).where(Pair.dataset_id == dataset.id, among(Pair.pair, many))
    keys = rows_among((Pair.pair, Pair.version), [(pair, 1) for pair in many])
    assert sorted(session.scalars(one)) == [3, 4, 5]
    assert sorted(session.scalars(select(Pair.pair).where(keys))) == [3, 4, 5]
