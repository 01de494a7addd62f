"""Answers beside those of a reference without cache, padding and batches."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chesboard.configs import ScoreConfig
from chesboard.forward.batching import TokenBudget
from chesboard.forward.rope import length_dependent_rope
from chesboard.generation import decoding as module
from chesboard.generation.answers import answer_requests
from chesboard.generation.decoding import Decoded, Request, end_ids, takes_padding
from chesboard.generation.sampling import Sampling, draws, next_tokens
from chesboard.model import LoadedModel
from chesboard.reporting import RunInterruptedError
from chesboard.scoring import score_pairs
from tests.chesboard.forward.test_rope import ORIGINAL
from tests.chesboard.forward.test_rope import build as build_with_rope
from tests.tiny_models import (
    END,
    GoOn,
    KeepingReporter,
    StopAfter,
    load,
    make_pair,
    random_pairs,
)

PROMPTS = [tuple(pair.prompt_ids) for pair in random_pairs(7, seed=3)]
MOST = 12
Key = tuple[int, int]


def requests(samples: int = 2, prompts: list[tuple[int, ...]] = PROMPTS) -> list[Request]:
    return [
        Request(pair, sample, prompt)
        for pair, prompt in enumerate(prompts)
        for sample in range(samples)
    ]


def naive(loaded: LoadedModel, request: Request, sampling: Sampling, seed: int = 0) -> Decoded:
    """The whole text again for each token, alone."""
    rope, ids, logprob = length_dependent_rope(loaded.model), list(request.prompt_ids), 0.0
    answer: list[int] = []
    for drawn in draws(seed, request.pair, request.sample, MOST):
        if rope is not None:
            rope.forget_earlier_lengths()
        with torch.no_grad():
            logits_1V = loaded.model(torch.tensor([ids])).logits[:, -1].float()
        token_id = int(next_tokens(logits_1V, sampling, torch.tensor([drawn])))
        logprob += torch.log_softmax(logits_1V.double(), -1)[0, token_id].item()
        ids.append(token_id)
        answer.append(token_id)
        if token_id in end_ids(loaded):
            return Decoded(answer, True, logprob)
    return Decoded(answer, False, logprob)


def answers(
    loaded: LoadedModel,
    wanted: list[Request],
    sampling: Sampling,
    *,
    budget: int = 10_000,
    seed: int = 0,
    said: list[str] | None = None,
    control: GoOn | StopAfter | None = None,
) -> dict[Key, Decoded]:
    found: dict[Key, Decoded] = {}
    messages = [] if said is None else said
    answer_requests(
        loaded,
        wanted,
        MOST,
        sampling,
        TokenBudget(budget, messages.append),
        control or GoOn(),
        lambda request, decoded: found.update({(request.pair, request.sample): decoded}),
        messages.append,
        seed=seed,
    )
    return found


def texts(found: dict[Key, Decoded]) -> dict[Key, tuple[list[int], bool]]:
    return {key: (one.ids, one.ended) for key, one in found.items()}


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, 0.8), Sampling(0.0)], ids=str)
@pytest.mark.parametrize(
    "kind", ["llama", "gpt2", "gemma2", "opt", "cohere", "llama4", "mamba", "lfm2"]
)
def test_answers_are_those_of_each_prompt_alone(kind: str, sampling: Sampling) -> None:
    loaded = load(kind)
    found = answers(loaded, requests(), sampling)
    for request in requests():
        one, expected = found[request.pair, request.sample], naive(loaded, request, sampling)
        assert (one.ids, one.ended) == (expected.ids, expected.ended)
        assert one.logprob == pytest.approx(expected.logprob, rel=1e-4, abs=1e-3)
    if not sampling.is_greedy:
        assert found[0, 0].ids != found[0, 1].ids


def test_a_model_with_a_cache_of_its_own_reads_the_whole_text_again(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Mamba and LFM2 have before transformers 5."""
    expected = answers(llama, requests(), Sampling())
    monkeypatch.setattr(type(llama.model), "_supports_default_dynamic_cache", lambda _: False)
    monkeypatch.setattr(module, "new_cache", lambda _: pytest.fail("no other holds its states"))
    assert not takes_padding(llama)
    assert texts(answers(llama, requests(), Sampling())) == texts(expected)


@pytest.mark.parametrize("kind", ["longrope phi3", "dynamic llama"])
def test_answers_past_the_original_context_are_those_of_the_whole_text(kind: str) -> None:
    """Where rotary frequencies change with the length, keys are computed anew."""
    loaded = build_with_rope(kind)
    prompts = [tuple(range(ORIGINAL - 5)), tuple(range(ORIGINAL + 3)), (5, 6, 7)]
    wanted = requests(2, prompts)
    found = answers(loaded, wanted, Sampling())
    for request in wanted:
        assert found[request.pair, request.sample].ids == naive(loaded, request, Sampling()).ids


LLAMA = load("llama")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.integers(0, 9))
def test_an_answer_depends_on_neither_batch_nor_order(seed: int, budget: int, order: int) -> None:
    loaded, wanted = LLAMA, requests(2)
    alone = answers(loaded, wanted, Sampling(), budget=0, seed=seed)
    random.Random(order).shuffle(wanted)
    together = answers(loaded, wanted, Sampling(), budget=budget, seed=seed)
    assert texts(together) == texts(alone)
    for key, one in together.items():
        assert one.logprob == pytest.approx(alone[key].logprob, rel=1e-4, abs=1e-3)


def test_rows_that_ended_are_taken_out_of_the_batch_without_a_change(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.model.generation_config.eos_token_id = list(range(40))  # so that many end early
    wanted = requests(4)
    kept: list[int] = []
    select = module._Batch._keep

    def keep(self: module._Batch, rows: list[int]) -> None:
        kept.append(len(rows))
        select(self, rows)

    monkeypatch.setattr(module._Batch, "_keep", keep)
    found = answers(llama, wanted, Sampling())
    assert len(kept) > 1
    assert kept[-1] < kept[0] < len(wanted)
    alone = {(one.pair, one.sample): naive(llama, one, Sampling()) for one in wanted}
    assert texts(found) == texts(alone)


def test_any_of_the_models_end_tokens_ends_an_answer(llama: LoadedModel) -> None:
    request = Request(0, 0, PROMPTS[0])
    first = naive(llama, request, Sampling()).ids[0]
    llama.model.generation_config.eos_token_id = [END, first]
    found = answers(llama, [request], Sampling())[0, 0]
    assert (found.ids, found.ended) == ([first], True)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_log_probability_of_an_answer_is_what_scoring_gives_it(kind: str) -> None:
    """However it was sampled: it is that at temperature 1 over all tokens, end token included."""
    loaded = load(kind)
    loaded.model.generation_config.eos_token_id = list(range(40))
    found = answers(loaded, requests(), Sampling(0.6, 0.9))
    assert {one.ended for one in found.values()} == {True, False}
    pairs = [
        make_pair(number, PROMPTS[pair], one.ids, [END])
        for number, ((pair, _), one) in enumerate(found.items())
    ]
    scored = KeepingReporter()
    score_pairs(loaded, pairs, ScoreConfig(), scored, GoOn())
    expected = {one.pair: one.preferred_logprob for one in scored.score_records}
    for number, one in enumerate(found.values()):
        assert one.logprob == pytest.approx(expected[number], rel=1e-4, abs=1e-3)


def test_an_answer_is_handed_over_once_at_its_own_end(llama: LoadedModel) -> None:
    seen: list[Key] = []
    llama.model.generation_config.eos_token_id = list(range(40))
    wanted = requests(3)
    answer_requests(
        llama,
        wanted,
        MOST,
        Sampling(),
        TokenBudget(10_000, pytest.fail),
        GoOn(),
        lambda request, _: seen.append((request.pair, request.sample)),
        pytest.fail,
    )
    assert sorted(seen) == sorted((one.pair, one.sample) for one in wanted)
    lengths = {key: len(one.ids) for key, one in answers(llama, wanted, Sampling()).items()}
    assert [lengths[key] for key in seen] == sorted(lengths.values())


def test_a_prompt_is_read_once_for_all_its_samples(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, ...]] = []
    forward = type(llama.model).forward

    def watched(self: object, input_ids: torch.Tensor, **others: object) -> object:
        read.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **others)

    monkeypatch.setattr(type(llama.model), "forward", watched)
    answers(llama, requests(5, [PROMPTS[0]]), Sampling())
    assert read[0] == (1, len(PROMPTS[0]))
    assert read[1] == (5, 1)


def test_a_run_can_be_stopped_between_two_tokens(llama: LoadedModel) -> None:
    with pytest.raises(RunInterruptedError):
        answers(llama, requests(), Sampling(), control=StopAfter(4))


def test_a_batch_that_does_not_fit_is_halved_and_one_prompt_alone_left_out(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(llama, requests(), Sampling())
    longest = max(range(len(PROMPTS)), key=lambda pair: len(PROMPTS[pair]))
    forward = type(llama.model).forward

    def fail(self: object, input_ids: torch.Tensor, **others: object) -> object:
        rows, length = input_ids.shape
        if rows > 2 or length == len(PROMPTS[longest]):
            raise torch.OutOfMemoryError("too much")
        return forward(self, input_ids=input_ids, **others)

    monkeypatch.setattr(type(llama.model), "forward", fail)
    said: list[str] = []
    found = answers(llama, requests(), Sampling(), said=said, budget=200)
    left_out = {key for key in expected if len(PROMPTS[key[0]]) == len(PROMPTS[longest])}
    assert texts(found) == texts({k: one for k, one in expected.items() if k not in left_out})
    assert any("Out of GPU memory" in message for message in said)
    assert any("too long to be answered" in message for message in said)


def test_padding_is_used_where_a_mask_hides_it() -> None:
    assert all(takes_padding(load(kind)) for kind in ("llama", "gpt2", "gemma2", "llama4"))
    assert not any(takes_padding(load(kind)) for kind in ("mamba", "lfm2"))
    assert not takes_padding(build_with_rope("dynamic llama"))
