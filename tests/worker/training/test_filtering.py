"""Training runs that filter their pairs before each epoch."""

import functools
from pathlib import Path

import pytest
import torch

from chesboard import filtering
from chesboard.configs import RefreshFilter, TrainConfig
from chesboard.filtering import Decided, PairFilter
from chesboard.judging.classifier import ClassifierJudge
from chesboard.pairs import Pair
from chesboard.reporting import RunCancelledError, RunInterruptedError
from tests.tiny_models import GoOn, KeepingReporter, StopAfter, build_tokenizer, load, random_pairs
from tests.tiny_models.classifiers import reward_llama
from worker.training import checkpoints
from worker.training.checkpoints import CheckpointMismatchError
from worker.training.loop import train

PAIRS = random_pairs(11)
BASE = {
    "learning_rate": 1e-3,
    "batch_size": 4,
    "epochs": 3,
    "probe_every": 4,
    "scheduler": "linear",
    "batch_tokens": 64,
    "refresh_filter": {"reward_model": "judge", "answer_tokens": 3},
}


def texts(pairs):
    decode = build_tokenizer(chat=False).decode
    every = {
        one.pair: Pair(decode(one.prompt_ids), decode(one.preferred_words), "", pair=one.pair)
        for one in PAIRS
    }
    return [every[pair] for pair in pairs]


@functools.cache
def reward_model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokenizer = build_tokenizer(chat=True)
        tokenizer.pad_token = "<|endoftext|>"
        return ClassifierJudge(reward_llama(tokenizer.pad_token_id).eval(), tokenizer, None)


class Dropping:
    """A reward model that drops so many pairs, the first that are left, before each epoch."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def judge(self, answers, control, on_judged):
        samples = [one for one in answers if one.sample == 0]
        count = self.counts.pop(0)
        drops = {one.pair for one in samples[:count]}
        score = {one.key: 1.0 if one.pair in drops else -1.0 for one in samples}
        on_judged([one.judged(None, score.get(one.key, 0.0)) for one in answers])


def run(folder, control=None, reporter=None, judge=None, pairs=PAIRS, stored=True, **config):
    loaded = load()
    reporter = reporter or KeepingReporter()
    control = control or GoOn()
    wanted = TrainConfig(**{**BASE, **config})
    known = {(one.epoch, one.pair): one for one in reporter.filtered} if stored else {}
    pair_filter = PairFilter(
        loaded,
        RefreshFilter.model_validate(wanted.refresh_filter),
        wanted.seed,
        wanted.batch_tokens,
        texts,
        (lambda: judge) if judge else reward_model,
        reporter,
        control,
        [Decided(o.epoch, o.pair, o.preferred_reward, o.kept) for o in known.values()],
    )
    summary = train(
        loaded,
        pairs,
        wanted,
        reporter,
        control,
        Path(folder),
        pairs[:2],
        dict(reporter.references),
        pair_filter=pair_filter,
    )
    return summary, reporter, loaded


def rows(reporter):
    """What was recorded last under each key."""
    metrics = {one.step: (one.loss, one.learning_rate, one.grad_norm) for one in reporter.metrics}
    filtered = {(one.epoch, one.pair): one for one in reporter.filtered}
    steps = {(one.pair, one.step): one for one in reporter.probe_steps}
    return metrics, filtered, steps, {one.pair: one for one in reporter.final_records}


def test_dropped_pairs_are_in_no_later_step_and_the_number_of_steps_follows(tmp_path):
    summary, reporter, _ = run(tmp_path, judge=Dropping(2, 3, 2), batch_size=2)
    assert [sum(one.epoch == epoch for one in reporter.filtered) for epoch in (1, 2, 3)] == [
        11,
        9,
        6,
    ]
    steps = [5, 3, 2]  # of 9, 6 and 4 pairs
    assert summary["steps"] == len(reporter.metrics) == sum(steps)
    assert summary["dropped_pairs"] == 7
    dropped = [one.pair for one in reporter.filtered if not one.kept]
    assert dropped == [pair.pair for pair in PAIRS[:7]]
    tokens = [0, 0, 0]
    for epoch, first in enumerate((2, 5, 7)):
        tokens[epoch] = sum(pair.tokens for pair in PAIRS[first:])
    assert summary["tokens_seen"] == sum(tokens)
    totals = dict.fromkeys(total for _, total, unit in reporter.progresses if unit == "steps")
    # As many steps as follow if no more pairs are dropped; exact in the last epoch.
    assert list(totals) == [18, 15, 11, 10]
    assert reporter.metrics[-1].step == max(one.step for one in reporter.probe_steps) == 10
    # Linear decay over the steps that are then left.
    rates = [one.learning_rate for one in reporter.metrics]
    assert rates[4:6] == pytest.approx([1e-3 * (1 - 4 / 15), 1e-3 * (1 - 5 / 11)])
    assert rates[-1] == pytest.approx(1e-3 * (1 - 9 / 10))
    assert "filtering" in reporter.phases


@pytest.mark.parametrize(
    ("config", "checks"),
    [
        *(({}, checks) for checks in range(8, 72, 5)),
        ({"lora": {"rank": 2, "dropout": 0.3}}, 30),
        ({"lora": {"rank": 2, "dropout": 0.3}}, 50),
        *(({"extend_sft_epochs": 1}, checks) for checks in range(10, 60, 7)),
        ({"max_steps": 4}, 40),
        ({"reward_calibration": True}, 50),
    ],
)
def test_interrupted_run_takes_the_same_decisions_and_ends_equal_to_the_last_bit(
    tmp_path, monkeypatch, config, checks
):
    monkeypatch.setattr(filtering, "DECIDED_AT_A_TIME", 5)
    summary, whole, loaded = run(tmp_path / "whole", **config)
    assert {one.kept for one in whole.filtered} == {True, False}
    parts = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        run(tmp_path / "parts", control=StopAfter(checks), reporter=parts, **config)
    again, _, resumed = run(tmp_path / "parts", reporter=parts, **config)
    assert rows(parts) == rows(whole)
    for name, weight in loaded.model.named_parameters():
        assert torch.equal(weight, resumed.model.get_parameter(name))
    for name in ("steps", "tokens_seen", "dropped_pairs", "final_loss", "probes"):
        assert again[name] == summary[name]


def test_decisions_ahead_of_the_checkpoint_are_taken_as_they_were(tmp_path):
    """A worker that dies before the second epoch leaves a checkpoint of the first."""
    _, whole, _ = run(tmp_path / "whole", checkpoint_every=1, batch_size=2)
    parts = KeepingReporter()

    class Dies(GoOn):
        def check(self):
            if any(one.epoch == 2 for one in parts.filtered):
                raise KeyboardInterrupt

    first = sum(one.kept for one in whole.filtered if one.epoch == 1)
    every = -(-first // 2) - 1  # steps: one less than the first epoch has
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Dies(), parts, checkpoint_every=every, batch_size=2)
    done = len(parts.metrics)
    assert done == every + 1
    run(tmp_path / "parts", reporter=parts, checkpoint_every=every, batch_size=2)
    assert [one.step for one in parts.metrics[done - 1 : done + 1]] == [done, done]
    assert rows(parts) == rows(whole)


def test_a_checkpoint_without_its_decisions_is_refused(tmp_path):
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        run(tmp_path, control=StopAfter(40), reporter=reporter)
    assert checkpoints.exists(tmp_path)
    with pytest.raises(CheckpointMismatchError, match="decisions of the filter"):
        run(tmp_path, reporter=reporter, stored=False)


@pytest.mark.parametrize(("counts", "steps"), [((11,), 0), ((1, 10), 3)])
def test_a_run_that_drops_every_pair_ends_early_with_its_last_step_observed(
    tmp_path, counts, steps
):
    summary, reporter, _ = run(tmp_path, judge=Dropping(*counts))
    assert summary["steps"] == len(reporter.metrics) == steps
    assert summary["dropped_pairs"] == len(PAIRS)
    assert any("the filter left no pair" in message for message in reporter.messages)
    assert max(one.step for one in reporter.probe_steps) == steps
    assert len(reporter.final_records) == len(PAIRS)
    assert reporter.progresses[-1] == (steps, steps, "steps")
    assert reporter.phases[-1] == "training"


def test_the_first_phase_has_all_pairs_and_is_before_the_first_filter(tmp_path):
    _, reporter, _ = run(tmp_path, judge=Dropping(5, 0, 0), extend_sft_epochs=1)
    assert [one.margin is None for one in reporter.metrics] == [True] * 3 + [False] * 6
    assert reporter.phases.index("fine-tuning on both responses") < reporter.phases.index(
        "filtering"
    )
    assert len(reporter.references) == len(PAIRS)


def test_a_cancel_is_noticed_between_two_tokens(tmp_path):
    reporter = KeepingReporter()

    class Cancel(GoOn):
        checks = 0

        def check(self):
            self.checks += "filtering" in reporter.phases
            if self.checks == 3:
                raise RunCancelledError

    with pytest.raises(RunCancelledError):
        run(tmp_path, control=Cancel(), reporter=reporter)
    assert not reporter.metrics
    assert not reporter.filtered
