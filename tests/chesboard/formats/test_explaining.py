"""The error for columns of no known form: what is nearest, what it lacks, and what to send."""

import json
from typing import Any

import pytest

from tests.chesboard.formats.test_candidates import read


def error_of(*rows: dict[str, Any]) -> str:
    _, reader = read(*rows)
    return str(reader.why_nothing_is_usable())


@pytest.mark.parametrize(
    ("row", "form", "missing"),
    [
        ({"prompt": "a", "chosen": "b"}, "plain text", "`rejected`"),
        ({"prompt": "a", "completion": "b"}, "KTO", "`label`"),
        ({"prompt": "a", "response1": "b", "response2": "c"}, "HelpSteer", "`overall_preference`"),
        ({"instruction": "a", "generations": ["b", "c"]}, "rated", "`overall_score`"),
        ({"Question": "a", "answer_matching_behavior": "b"}, "persona", "`answer_not_matching"),
    ],
)
def test_nearest_form_is_named_with_what_it_lacks(
    row: dict[str, Any], form: str, missing: str
) -> None:
    error = error_of(row)
    assert error.startswith(f"The columns found are {', '.join(row)}. The nearest form is ")
    assert form in error.split("which also needs")[0]
    assert missing in error.split("which also needs")[1].split(".")[0]


@pytest.mark.parametrize(
    "row",
    [
        {"q": "a", "good": "b", "bad": "c"},
        {"query": "a", "good answer": "b", "bad answer": "c", "id": 7},
    ],
)
def test_mapping_that_is_suggested_works(row: dict[str, Any]) -> None:
    _, _, mapping = error_of(row).partition("send this `mapping`: ")
    [pair], _ = read(row, mapping=json.loads(mapping.removesuffix(".")))
    assert (pair.prompt, pair.preferred, pair.dispreferred) == ("a", "b", "c")


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a", "label": 1},
        {"good": 1, "bad": 2},
        {"q": "a", "also": "a", "good": "b", "bad": "c"},
    ],
)
def test_mapping_that_cannot_work_is_not_suggested(row: dict[str, Any]) -> None:
    error = error_of(row)
    assert "send this" not in error
    assert "name them with `mapping`" in error
