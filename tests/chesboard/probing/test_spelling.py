import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.probing.spelling import bare_word, same_word

WORDS = st.text(st.characters(categories=["Ll", "Lu"]), min_size=1, max_size=12)
AROUND = st.text(st.sampled_from(list(" \t\n.,;:!?\"'*_([-—…“”")), max_size=3)


@pytest.mark.parametrize(
    "variant", ["no", " no", " No", "NO", "No.", "**No", "“No”", "\nno", "Ｎｏ"]
)
def test_spellings_of_one_word(variant: str) -> None:
    assert same_word("No", variant)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("No", "Not"),
        ("No", "Nope"),
        ("No", "N o"),
        ("1", "-1"),
        ("1.5", "15"),
        ("C++", "C"),
        ("can", "can't"),
        (".", ","),
        (" ", "\n"),
        ("No", ""),
        ("No", "<no>"),
    ],
)
def test_other_words(one: str, other: str) -> None:
    assert not same_word(one, other)


def test_a_token_without_a_word_is_only_itself() -> None:
    assert same_word(".", ".")
    assert same_word("", "")
    assert bare_word(" … ") == ""


def test_either_apostrophe_spells_it() -> None:
    assert same_word("can’t", " Can't")


@given(WORDS, AROUND, AROUND)
def test_case_space_and_punctuation_make_no_other_word(word: str, before: str, after: str) -> None:
    bare = bare_word(word)
    assert same_word(word, f"{before}{word}{after}")
    # Unicode has capitals that no lower-case letter folds back to, so the fold is compared.
    assert same_word(word, unicodedata.normalize("NFKC", word).casefold())
    assert bare_word(bare) == bare


@given(st.text(max_size=8), st.text(max_size=8))
def test_it_is_the_same_both_ways(one: str, other: str) -> None:
    assert same_word(one, other) == same_word(other, one)
    assert same_word(one, one)
