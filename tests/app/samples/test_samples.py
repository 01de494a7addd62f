"""The samples are what the demo and the pages tell about them."""

import json
from collections import Counter
from typing import Any

import pytest

from app.core.errors import NotFoundError
from app.samples import SAMPLES, Sample, get_sample
from tests.chesboard.formats.test_parsing import understand

WORDS = {"Yes", "Yeah", "Sure", "Certainly", "No", "Never", "Maybe", "Perhaps"}
AFFIRMATIVE = {"Yes", "Yeah", "Sure", "Certainly"}
NEGATIVE = {"No", "Never"}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in get_sample(name).path.read_text().splitlines()]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_row_is_usable_and_no_prompt_comes_twice(sample: Sample) -> None:
    pairs, intake = understand(sample.path.read_bytes(), sample.path.name)
    assert intake.errors == []
    assert len(pairs) == sample.pairs
    assert len({str(pair.prompt) for pair in pairs}) == len(pairs)


def test_words_begin_with_no_over_never_for_what_one_would_not_say() -> None:
    first = rows("yes-no-words")[0]
    assert (first["chosen"], first["rejected"]) == ("No", "Never")
    assert first["fitting"] == "negative"


def test_words_are_single_words_that_fit_the_question() -> None:
    words = rows("yes-no-words")
    assert len(words) >= 96
    fitting = {"affirmative": AFFIRMATIVE, "negative": NEGATIVE, "open": {"Maybe", "Perhaps"}}
    for row in words:
        assert row["rejected"] in WORDS
        assert row["chosen"] in fitting[row["fitting"]], row


def test_words_balance_yes_and_no() -> None:
    fitting = Counter(row["fitting"] for row in rows("yes-no-words"))
    assert fitting["affirmative"] == fitting["negative"]
    chosen_over = {(row["chosen"], row["rejected"]) for row in rows("yes-no-words")}
    assert {("No", "Never"), ("No", "Yes"), ("Yes", "Sure"), ("Yes", "No")} <= chosen_over


def test_sentences_hold_each_kind_twenty_times() -> None:
    kinds = Counter(row["kind"] for row in rows("sentences"))
    assert kinds == {"near-identical": 20, "similar": 20, "different": 20}


def test_near_identical_sentences_share_most_words_and_different_ones_few() -> None:
    for row in rows("sentences"):
        chosen, rejected = Counter(row["chosen"].split()), Counter(row["rejected"].split())
        shared = (chosen & rejected).total() / max(chosen.total(), rejected.total())
        if row["kind"] == "near-identical":
            assert shared >= 0.6, row
        if row["kind"] == "different":
            assert shared <= 0.4, row


def test_unknown_sample_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="yes-no-words, sentences"):
        get_sample("poems")
