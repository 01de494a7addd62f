"""Text that PostgreSQL can store."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.text import STORABLE_PATTERN, sanitize, storable


@pytest.mark.parametrize("text", ["", "a", "é\n\t", "\U0001f600"])
def test_what_can_be_stored_is_returned_as_it_is(text: str) -> None:
    assert storable(text) is text
    assert sanitize(text) == text
    assert re.search(STORABLE_PATTERN, text)


@pytest.mark.parametrize(("text", "message"), [("a\0", "U+0000"), ("\ud800a", "lone surrogate")])
def test_what_cannot_be_stored_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        storable(text)


def test_the_pattern_refuses_nul() -> None:
    assert not re.search(STORABLE_PATTERN, "a\0b")


@given(st.text(st.characters(exclude_categories=[])))
def test_sanitized_text_can_be_stored(text: str) -> None:
    assert storable(sanitize(text)) == sanitize(text)
    assert len(sanitize(text)) == len(text)
