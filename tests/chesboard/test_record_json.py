"""Records as JSON objects: what is written is read again, and nothing else is."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chesboard.record_json import KINDS, from_json, to_json
from chesboard.records import (
    METRICS,
    AnswerRecord,
    LedgerEntry,
    LedgerRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    RecentLedger,
    Record,
)

numbers = st.floats()
maybe = st.none() | numbers
steps = st.integers(0, 2**31 - 1)
pairs = st.integers(-1000, 2**31 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
entries = st.lists(
    st.builds(LedgerEntry, steps, texts, numbers, numbers, numbers, maybe), max_size=3
)
watched = st.lists(
    st.fixed_dictionaries(
        {"token_id": steps, "token": texts, "initial": numbers, "predicted": maybe}
    ),
    max_size=3,
)
predicted = st.lists(
    st.fixed_dictionaries({"token_id": steps, "token": texts, "predicted": maybe}), max_size=3
)
groups = st.lists(
    st.fixed_dictionaries({"name": texts, "tokens": st.lists(texts, max_size=3)}), max_size=3
)
ledgers = st.builds(
    LedgerRecord,
    watched_probs=st.lists(numbers, max_size=3),
    gainers=entries,
    losers=entries,
    rest_change=numbers,
    moved_mass=numbers,
    recent=st.none() | st.builds(RecentLedger, steps, entries, entries, numbers, numbers),
    predicted_changes=st.lists(numbers, max_size=3),
    predicted_ranks=st.lists(steps, max_size=3),
    rank_agreement=maybe,
    argmax_token=st.none() | texts,
    argmax_logprob=maybe,
)
logprobs = st.lists(numbers, max_size=4)
responses = st.sampled_from(["preferred", "dispreferred"])
records = st.one_of(
    st.builds(
        MetricRecord,
        step=steps,
        **{name: maybe for name in METRICS if name != "tokens_seen"},
        tokens_seen=st.none() | st.integers(0, 2**63 - 1),
        extra=st.none() | st.dictionaries(texts, numbers, max_size=3),
    ),
    st.builds(
        ProbeRecord,
        pair=pairs,
        prompt=texts,
        preferred_tokens=st.lists(texts, max_size=3),
        dispreferred_tokens=st.lists(texts, max_size=3),
        fork_position=steps,
        groups=groups,
        watched=watched,
        predicted=predicted,
        positions=st.dictionaries(responses, st.lists(steps, max_size=3)),
        kind=st.sampled_from(["pair", "prompt"]),
        name=st.none() | texts,
    ),
    st.builds(
        ProbeStepRecord,
        *(pairs, steps, logprobs, logprobs, maybe, maybe, st.none() | steps),
        *(maybe, maybe, maybe, logprobs, ledgers),
    ),
    st.builds(PositionRecord, pairs, responses, steps, watched, predicted),
    st.builds(PositionStepRecord, pairs, responses, steps, steps, ledgers),
    st.builds(AnswerRecord, pairs, steps, texts, st.booleans()),
)

METRIC = MetricRecord(3, 0.5, *[None] * 11)


def same(one: Any, other: Any) -> bool:
    """As JSON, where NaN is NaN and an infinity is NaN too: what both have lost is the same."""
    return to_json(one) == to_json(other)


@given(records)
def test_what_is_written_is_read_again(record: Record) -> None:
    sent = json.loads(json.dumps(to_json(record), allow_nan=False))
    assert same(from_json(sent), record)
    assert type(from_json(sent)) is type(record)


def test_a_loss_that_is_not_finite_is_not_a_missing_loss() -> None:
    lost = from_json(to_json(replace(METRIC, loss=math.inf)))
    assert isinstance(lost, MetricRecord)
    assert lost.loss is not None
    assert math.isnan(lost.loss)
    missing = from_json(to_json(replace(METRIC, loss=None)))
    assert isinstance(missing, MetricRecord)
    assert missing.loss is None


def test_what_has_a_default_may_be_left_out() -> None:
    sent = {name: value for name, value in to_json(METRIC).items() if name != "extra"}
    assert from_json(sent) == METRIC


def test_the_kind_of_a_probe_has_a_name_of_its_own() -> None:
    probe = ProbeRecord(-1, "Is it?", [], [], 0, [], [], kind="prompt")
    assert to_json(probe)["kind"] == "probe"
    assert to_json(probe)["probe_kind"] == "prompt"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"step": -1}, "step"),
        ({"step": 2**31}, "step"),
        ({"step": "3"}, "step"),
        ({"step": True}, "step"),
        ({"step": None}, "step"),
        ({"loss": "0.5"}, "loss"),
        ({"losses": 0.5}, "losses"),
        ({"extra": {"a": "b"}}, "extra"),
        ({"extra": {"a\0": 1.0}}, "extra"),
    ],
)
def test_what_is_no_record_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        from_json(to_json(METRIC) | changes)
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(texts, st.none() | numbers | texts))
def test_anything_else_is_an_error_and_never_a_crash(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        from_json({**fields, "kind": kind})
