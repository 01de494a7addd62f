import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.measures.edit_distance import normalized_edit_distance
from tests.chesboard import naive
from tests.tiny_models import END, make_pair

token_lists = st.lists(st.integers(0, 4), max_size=40)


def distance(a, b):
    """Of two sequences of tokens, not divided by their length."""
    normalized = normalized_edit_distance(make_pair(0, [1], [*a, END], [*b, END]))
    return pytest.approx(normalized * max(len(a), len(b)), rel=1e-12)


@given(token_lists, token_lists)
def test_edit_distance_equals_its_table(a, b):
    assert naive.edit_distance(a, b) == distance(a, b)


def test_edit_distance_equals_its_table_beyond_a_machine_word():
    generator = random.Random(1)
    a = [generator.randrange(30) for _ in range(150)]
    b = [generator.randrange(30) for _ in range(200)]
    assert naive.edit_distance(a, b) == distance(a, b)


def test_token_ids_of_a_large_vocabulary_are_told_apart():
    ids = [0, 255, 256, 65_535, 65_536, 262_143]
    assert naive.edit_distance(ids, ids[::-1]) == distance(ids, ids[::-1])


def test_normalized_edit_distance_leaves_the_end_token_out():
    assert normalized_edit_distance(make_pair(0, [1], [5, END], [6, END])) == 1.0
    assert normalized_edit_distance(make_pair(0, [1], [5, 6, 7, END], [5, 7, END])) == (
        pytest.approx(1 / 3)
    )
    assert normalized_edit_distance(make_pair(0, [1], [END], [END])) == 0.0
