"""A message of a run is told by its finding: held against the sentences that are really written."""

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from app.findings.schemas import FindingKindOut
from app.findings.told import untold
from chesboard.findings import FINDINGS, FindingKind
from chesboard.records import FindingRecord
from chesboard.scoring import report_same_tokens, report_truncation
from chesboard.tallies import tally
from chesboard.text_messages import sentences

REPORTED = ("prompt_truncated", "response_truncated", "retokenized", "same_tokens")
"""Kinds that are told by what a run does with the tokens, not by the check of the texts."""
HEADER = "The chat template writes no generation prompt: the header of an answer was taken from it."


def kind_out(kind: FindingKind) -> FindingKindOut:
    found = FINDINGS[kind]
    return FindingKindOut(
        kind=kind,
        label=found.label,
        consequence=found.consequence,
        help=found.help,
        advice=found.advice,
        count=1,
    )


def written(kind: FindingKind) -> str:
    """What a run says of a finding."""
    said: list[str] = []
    reporter: Any = SimpleNamespace(message=said.append)
    if kind in REPORTED:
        pair: Any = SimpleNamespace(
            pair=4,
            tokens=9,
            prompt_cut=0,
            cut_tokens=3 if "truncated" in kind else 0,
            retokenized=kind == "retokenized",
            has_same_tokens=kind == "same_tokens",
            preferred_cut=0,
        )
        report_truncation([pair], reporter)
        report_same_tokens([pair], reporter, "are left out of training")
    else:
        found = tally([FindingRecord(4, kind, "system")])
        said += sentences(found, 9, SimpleNamespace(chat_template=None))
    [message] = said
    return message


@pytest.mark.parametrize("kind", get_args(FindingKind))
def test_what_a_finding_says_is_not_said_again(kind: FindingKind) -> None:
    message = written(kind)
    assert untold([message, HEADER], [kind_out(kind)]) == [HEADER]
    others = [kind_out(other) for other in FINDINGS if written(other) != message]
    assert untold([message], others) == [message]


def test_without_findings_every_message_stays() -> None:
    assert untold([written("special_tokens"), HEADER], []) == [written("special_tokens"), HEADER]
