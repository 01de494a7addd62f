"""Filtered DPO's decisions, against sampling and scoring written out token by token."""

import math

import numpy as np
import pytest
import torch

from chesboard import filtering
from chesboard.configs import RefreshFilter
from chesboard.filtering import Decided, PairFilter, is_kept
from chesboard.judging.classifier import ClassifierJudge
from chesboard.pairs import Pair
from chesboard.records import JudgmentRecord
from chesboard.reporting import RunInterruptedError
from chesboard.tokenization import show_null
from tests.tiny_models import GoOn, KeepingReporter, StopAfter, build_tokenizer, load, random_pairs
from tests.tiny_models.classifiers import reward_llama

PAIRS = random_pairs(9)
TOKENS = 6
SEED = 3
POLICY = load()
END_OF_TURN = POLICY.tokenizer.convert_tokens_to_ids("<|im_end|>")


def texts(pairs):
    decode = POLICY.tokenizer.decode
    every = {
        one.pair: Pair(
            decode(one.prompt_ids),
            decode(one.preferred_words),
            decode(one.dispreferred_words),
            pair=one.pair,
        )
        for one in PAIRS
    }
    return [every[pair] for pair in pairs]


def reward_model():
    torch.manual_seed(1)
    tokenizer = build_tokenizer(chat=True)
    tokenizer.pad_token = "<|endoftext|>"
    return ClassifierJudge(reward_llama(tokenizer.pad_token_id).eval(), tokenizer, None)


def make(
    reporter=None, control=None, decided=(), load_reward=reward_model, policy=POLICY, **config
):
    wanted = RefreshFilter(reward_model="judge", **{"answer_tokens": TOKENS, **config})
    return PairFilter(
        policy,
        wanted,
        SEED,
        4096,
        texts,
        load_reward,
        reporter or KeepingReporter(),
        control or GoOn(),
        decided,
    )


def naive_sample(pair, epoch, temperature=1.0):
    """The next token is the first whose cumulative probability exceeds a uniform number."""
    ids, ended = list(pair.prompt_ids), False
    for drawn in np.random.default_rng((SEED, pair.pair, epoch)).random(TOKENS):
        logits = POLICY.model(torch.tensor([ids])).logits[0, -1].detach().double()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
            token = int((cumulative > drawn * cumulative[-1]).nonzero()[0])
        ended = token in (POLICY.tokenizer.eos_token_id, END_OF_TURN)
        if ended:
            break
        ids.append(token)
    return show_null(POLICY.tokenizer.decode(ids[len(pair.prompt_ids) :]))


def naive_reward(prompt, answer):
    torch.manual_seed(1)
    tokenizer = build_tokenizer(chat=True)
    model = reward_llama(tokenizer.eos_token_id).eval()
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return model(torch.tensor([ids])).logits.item()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_decisions_are_those_of_the_naive_computation(temperature):
    reporter = KeepingReporter()
    kept = make(reporter, temperature=temperature).decide(2, PAIRS)
    assert {record.kept for record in reporter.filtered} == {True, False}
    for pair, record, keeps in zip(PAIRS, reporter.filtered, kept, strict=True):
        raw = texts([pair.pair])[0]
        sample = naive_sample(pair, 2, temperature)
        rewards = naive_reward(raw.prompt, sample), naive_reward(raw.prompt, raw.preferred)
        assert (record.pair, record.epoch, record.text) == (pair.pair, 2, sample)
        assert (record.sample_reward, record.preferred_reward) == pytest.approx(rewards, abs=1e-4)
        assert record.kept == keeps == (rewards[0] - rewards[1] < 0)


def test_a_decision_depends_on_its_pair_and_epoch_alone():
    alone, together = KeepingReporter(), KeepingReporter()
    make(together).decide(1, PAIRS)
    for pair in reversed(PAIRS):
        make(alone).decide(1, [pair])
    assert [one.text for one in reversed(alone.filtered)] == [one.text for one in together.filtered]
    another = KeepingReporter()
    make(another).decide(2, PAIRS)
    assert [one.text for one in another.filtered] != [one.text for one in together.filtered]


def decided(reporter):
    return [
        Decided(one.epoch, one.pair, one.preferred_reward, one.kept) for one in reporter.filtered
    ]


@pytest.mark.parametrize("checks", [3, 9, 14, 19, 30])
def test_an_interrupted_filter_goes_on_bit_for_bit(monkeypatch, checks):
    monkeypatch.setattr(filtering, "DECIDED_AT_A_TIME", 4)
    whole, parts = KeepingReporter(), KeepingReporter()
    every = make(whole)
    both = every.decide(1, PAIRS), every.decide(2, PAIRS)
    first = make(parts, StopAfter(checks))
    with pytest.raises(RunInterruptedError):
        list(map(first.decide, (1, 2), (PAIRS, PAIRS)))
    resumed = make(parts, decided=decided(parts))
    assert (resumed.decide(1, PAIRS), resumed.decide(2, PAIRS)) == both
    assert parts.filtered == whole.filtered


def test_what_is_decided_is_known_and_loads_no_reward_model():
    reporter = KeepingReporter()
    kept = make(reporter).decide(1, PAIRS)

    def never():
        raise AssertionError("nothing is left to score")

    resumed = make(decided=decided(reporter), load_reward=never)
    ordinals = [pair.pair for pair in PAIRS]
    assert resumed.known(1, ordinals) == resumed.decide(1, PAIRS) == kept
    assert resumed.known(2, ordinals) is None


class Fixed:
    """A reward model with one answer."""

    def __init__(self, score):
        self.score, self.judged = score, []

    def judge(self, answers, control, on_judged):
        self.judged += [one.text for one in answers]
        on_judged([JudgmentRecord(one.pair, one.sample, None, self.score) for one in answers])


def test_the_preferred_response_is_scored_once():
    judge = Fixed(0.0)
    pair_filter = make(load_reward=lambda: judge)
    pair_filter.decide(1, PAIRS)
    assert len(judge.judged) == 2 * len(PAIRS)
    pair_filter.decide(2, PAIRS)
    assert len(judge.judged) == 3 * len(PAIRS)


def test_equal_rewards_drop_a_pair_and_no_number_keeps_it():
    assert make(load_reward=lambda: Fixed(1.5)).decide(1, PAIRS) == [False] * len(PAIRS)
    reporter = KeepingReporter()
    kept = make(reporter, load_reward=lambda: Fixed(math.nan)).decide(1, PAIRS)
    assert kept == [True] * len(PAIRS)
    assert any("9 of 9 rewards were no finite numbers" in text for text in reporter.messages)
    assert is_kept(0.0, 1e-300)
    assert is_kept(math.inf, 1.0)
    assert not is_kept(1.0, 0.0)


def test_a_pair_whose_prompt_leaves_no_room_for_an_answer_goes_on():
    reporter = KeepingReporter()
    policy = load("gpt2")
    kept = make(reporter, policy=policy, answer_tokens=512).decide(1, PAIRS)
    assert kept == [True] * len(PAIRS)
    assert {(one.text, one.sample_reward) for one in reporter.filtered} == {(None, None)}
    assert all(math.isfinite(one.preferred_reward) for one in reporter.filtered)
    assert any("9 of 9 prompts were too long" in text for text in reporter.messages)
