"""Rotary positions that depend on the length of the text: the batch changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chesboard import cpu
from chesboard.configs import ScoreConfig
from chesboard.forward.by_length import ByLengthForward
from chesboard.forward.rope import length_dependent_rope
from chesboard.forward.select import select_forward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.probing.generation import greedy_answers
from chesboard.probing.snapshots import distributions_at
from chesboard.scoring import score_pairs
from tests.chesboard import naive
from tests.tiny_models import (
    GoOn,
    KeepingReporter,
    build_other,
    build_tokenizer,
    make_pair,
    random_pairs,
    rope_settings,
)
from tests.tiny_models import load as load_tiny

ORIGINAL = 24
"""Tokens from which on the frequencies are others."""
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.5, 3.0, 6.0, 9.0],
    "original_max_position_embeddings": ORIGINAL,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
BUILDERS: dict[str, Callable[[], Any]] = {
    "longrope phi3": lambda: build_other(
        "phi3",
        **rope_settings(LONGROPE),
        original_max_position_embeddings=ORIGINAL,
        max_position_embeddings=96,
    ),
    "longrope phimoe": lambda: build_other(
        "phimoe",
        **rope_settings(LONGROPE | {"short_mscale": 1.1, "long_mscale": 1.3}),
        original_max_position_embeddings=ORIGINAL,
        max_position_embeddings=96,
        num_local_experts=2,
        experts_implementation="eager",  # others have no float64
    ),
    "dynamic llama": lambda: build_other(
        "llama", **rope_settings(DYNAMIC), max_position_embeddings=ORIGINAL
    ),
}


def build(kind: str) -> LoadedModel:
    torch.manual_seed(7)
    model = BUILDERS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(8)
    cpu.install(model.eval(), blockwise_attention=False)
    return LoadedModel(model, build_tokenizer(chat=False), torch.device("cpu"), torch.float32, kind)


@pytest.fixture(params=list(BUILDERS))
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return build(request.param)


def scores(loaded: LoadedModel, pairs: list[TokenizedPair], batch_tokens: int) -> Any:
    reporter = KeepingReporter()
    score_pairs(loaded, pairs, ScoreConfig(batch_tokens=batch_tokens), reporter, GoOn())
    return sorted(reporter.score_records, key=lambda record: record.pair)


@pytest.mark.parametrize("batch_tokens", [16, 150, 4096])
def test_scores_are_those_of_each_text_read_alone_whatever_the_batch(
    loaded: LoadedModel, batch_tokens: int
) -> None:
    pairs = random_pairs(14, longest=18)
    sides = [len(p.prompt_ids) + len(p.preferred_ids) > ORIGINAL for p in pairs]
    assert any(sides)
    assert not all(sides)
    found = scores(loaded, pairs, batch_tokens)
    for pair, record in zip(pairs, found, strict=True):
        naive.assert_scored(loaded, pair, record)


def test_a_text_is_read_as_before_after_longer_ones(loaded: LoadedModel) -> None:
    short, middle, long = (
        make_pair(0, range(length), [1, 2, 3], [4, 5, 6]) for length in (9, 30, 70)
    )
    first = scores(loaded, [middle], 4096)
    for other in (long, short):
        scores(loaded, [other], 4096)
        assert scores(loaded, [middle], 4096) == first


def test_prompts_are_shared_where_both_texts_have_the_same_positions(loaded: LoadedModel) -> None:
    pairs = random_pairs(6, longest=5)
    forward, reason = select_forward(loaded, pairs)
    assert (forward.kind, reason) == ("shared prefix", None)
    assert all(forward.row_tokens(p) < TwoPassForward(loaded).row_tokens(p) for p in pairs)


def test_pairs_on_both_sides_of_the_switch_are_computed_twice_and_that_is_said(
    loaded: LoadedModel,
) -> None:
    crossing = make_pair(0, range(ORIGINAL - 4), [1, 2], range(40, 50))
    pairs = [crossing, make_pair(1, range(4), [1, 2], [3, 4])]
    forward, reason = select_forward(loaded, pairs)
    assert forward.row_tokens(crossing) == TwoPassForward(loaded).row_tokens(crossing)
    assert "where they differ between the responses of a pair" in (reason or "")


@pytest.mark.parametrize("gradient", [False, True])
def test_a_common_prefix_is_prefilled_only_where_all_texts_agree(
    loaded: LoadedModel, gradient: bool
) -> None:
    """Prompts with a beginning in common, some beyond the switch, in one batch."""
    prefix = list(range(10))
    pairs = [
        make_pair(n, [*prefix, *range(50, 50 + more)], [1, 2, 3], [4, 5, 6])
        for n, more in enumerate((2, 4, 30, 33))
    ]
    shared, _ = select_forward(loaded, pairs)
    assert isinstance(shared, ByLengthForward)
    shared._shared._min_saved_tokens = 1
    with torch.set_grad_enabled(gradient):
        for batch in (pairs, pairs[:2], pairs[2:]):
            together = shared(batch).preferred_logprobs_B()
            alone = torch.cat([TwoPassForward(loaded)([p]).preferred_logprobs_B() for p in batch])
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_pairs_one_by_one(loaded: LoadedModel) -> None:
    pairs = random_pairs(8, longest=20)
    forward, _ = select_forward(loaded, pairs)

    def gradient(batches: list[list[TokenizedPair]]) -> torch.Tensor:
        loaded.model.zero_grad()
        for batch in batches:
            states = forward(batch)
            (states.preferred_logprobs_B() - states.dispreferred_logprobs_B()).sum().backward()
        found: torch.Tensor = loaded.model.get_input_embeddings().weight.grad
        return found.clone()

    alone = gradient([[pair] for pair in pairs])
    assert (gradient([pairs]) - alone).norm() <= 1e-4 * alone.norm()


def test_distributions_at_a_response_s_positions_are_those_of_the_whole_text(
    loaded: LoadedModel,
) -> None:
    pair = make_pair(0, range(ORIGINAL - 4), range(40, 60), [1, 2])
    expected = naive.read(loaded, pair.prompt_ids, pair.preferred_ids).distributions[2]
    [(_, found)] = distributions_at(loaded, pair, [("preferred", 2)], GoOn())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_answers_do_not_depend_on_what_was_answered_before(loaded: LoadedModel) -> None:
    prompts = [list(range(60)), list(range(30)), list(range(6))]
    together = greedy_answers(loaded, prompts, 4, GoOn(), lambda _: None)
    alone = [greedy_answers(loaded, [ids], 4, GoOn(), lambda _: None)[0] for ids in prompts[::-1]]
    assert together == alone[::-1]


def test_other_models_have_no_such_positions() -> None:
    assert length_dependent_rope(load_tiny("llama").model) is None
    assert length_dependent_rope(load_tiny("gpt2").model) is None


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)),
        min_size=1,
        max_size=5,
    ),
    kind=st.sampled_from(["longrope phi3", "dynamic llama"]),
)
def test_any_batch_gives_what_its_pairs_give_alone(
    lengths: list[tuple[int, int, int]], kind: str
) -> None:
    loaded = build(kind)
    pairs = [
        make_pair(n, range(prompt), range(60, 60 + yes), range(80, 80 + no))
        for n, (prompt, yes, no) in enumerate(lengths)
    ]
    forward, _ = select_forward(loaded, pairs)
    with torch.no_grad():
        together, alone = forward(pairs), [TwoPassForward(loaded)([pair]) for pair in pairs]
    for side in ("preferred_logprobs_B", "dispreferred_logprobs_B"):
        expected = torch.cat([getattr(one, side)() for one in alone])
        torch.testing.assert_close(getattr(together, side)(), expected, rtol=1e-5, atol=1e-4)
