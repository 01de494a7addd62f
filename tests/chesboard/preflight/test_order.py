"""The order of an influence matrix puts together what acts alike."""

from hypothesis import given
from hypothesis import strategies as st

from chesboard.preflight.order import clustered_order

SQUARES = st.integers(0, 8).flatmap(
    lambda n: st.lists(st.lists(st.floats(-10, 10), min_size=n, max_size=n), min_size=n, max_size=n)
)


@given(SQUARES)
def test_every_pair_stands_in_it_once(matrix: list[list[float]]) -> None:
    assert sorted(clustered_order(matrix)) == list(range(len(matrix)))


def test_two_groups_that_are_interleaved_are_taken_apart() -> None:
    group = [0, 1, 0, 1, 0, 1]
    matrix = [[1.0 if a == b else -1.0 for b in group] for a in group]
    order = clustered_order(matrix)
    assert [group[k] for k in order] in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_size_does_not_matter_but_proportion() -> None:
    # Pair 2 acts as pair 0 does, a hundred times as strongly.
    matrix = [[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [100.0, -100.0, 100.0]]
    order = clustered_order(matrix)
    assert abs(order.index(0) - order.index(2)) == 1


def test_a_matrix_of_zeros_keeps_its_order() -> None:
    assert clustered_order([[0.0] * 3] * 3) == [0, 1, 2]
