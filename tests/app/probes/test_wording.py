"""Words and numbers of sentences show what they are about: a change, a space."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.probes.wording import MAX_CHARACTERS, probabilities, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No", "“No”"),
        (" Of course", "“␣Of course”"),
        ("Of  course\n\n", "“Of course↵↵”"),
        ("It is\n\tsafe", "“It is safe”"),
        (" ", "“␣”"),
        ("\r\n\t", "“␍↵⇥”"),
        ("", "“”"),
    ],
)
def test_space_at_the_ends_of_a_token_is_shown(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text())
def test_any_text_is_quoted_on_one_line_and_cut(text: str) -> None:
    shown = quoted(text)
    assert len(shown.splitlines()) == 1
    assert len(shown) <= MAX_CHARACTERS + 2


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.11, 0.041, ("0.110", "0.041")),
        (0.0102, 0.0095, ("0.0102", "0.0095")),
        (0.5, 0.4998, ("0.5000", "0.4998")),
        (0.11, 3.21e-6, ("0.110", "3.2e-06")),
        (0.0, 1.0, ("0.000", "1.000")),
        (0.25, 0.25, ("0.250", "0.250")),
    ],
)
def test_two_probabilities_have_the_decimals_that_show_their_change(
    before: float, after: float, shown: tuple[str, str]
) -> None:
    assert probabilities(before, after) == shown


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_change_that_is_told_shows(before: float, after: float) -> None:
    first, last = probabilities(before, after)
    assert first != last or abs(after - before) < 1e-4
