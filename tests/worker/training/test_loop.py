import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from chesboard.configs import TrainConfig
from chesboard.reporting import RunCancelledError, RunInterruptedError
from tests.chesboard import naive
from tests.tiny_models import GoOn, KeepingReporter, StopAfter, load, random_pairs
from worker.training import checkpoints
from worker.training.divergence import TrainingDivergedError
from worker.training.gradient import StepGradient
from worker.training.loop import train
from worker.training.terms import NO_INPUTS, PairInputs

PAIRS = random_pairs(11)
PROBES = PAIRS[:3]
BASE = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 2, "probe_every": 2}


def run(
    folder,
    loaded=None,
    control=None,
    pairs=PAIRS,
    reference=None,
    reporter=None,
    inputs=NO_INPUTS,
    **config,
):
    loaded = loaded or load()
    reporter = reporter or KeepingReporter()
    summary = train(
        loaded,
        pairs,
        TrainConfig(**{**BASE, **config}),
        reporter,
        control or GoOn(),
        Path(folder),
        PROBES,
        reference,
        inputs,
    )
    return summary, reporter, loaded


def weights(loaded):
    return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}


def timeless(metrics):
    return [dataclasses.replace(metric, tokens_per_second=0.0) for metric in metrics]


def naive_gradient(loaded, pairs, config, reference):
    """Two forward passes a pair, full logits, torch's own log-softmax, all losses at once."""
    model = loaded.model
    model.zero_grad()
    total = torch.zeros(())
    for pair in pairs:
        logprobs = []
        for response in (pair.preferred_ids, pair.dispreferred_ids):
            logits = model(torch.tensor([[*pair.prompt_ids, *response]])).logits[0]
            first = len(pair.prompt_ids) - 1
            table = torch.log_softmax(logits[first : first + len(response)], -1)
            logprobs.append(table.gather(1, torch.tensor(response)[:, None]).sum())
        r_plus = logprobs[0] - reference[pair.pair][0]
        r_minus = logprobs[1] - reference[pair.pair][1]
        loss = -torch.nn.functional.logsigmoid(config.beta * (r_plus - r_minus))
        total = total + (loss - config.sft_coef * logprobs[0]) / len(pairs)
    total.backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return total.item(), gradient


def test_one_step_is_the_naive_gradient_step(tmp_path):
    """SGD makes the gradient visible: weights move by minus the rate times it."""
    loaded = load("untied llama")
    before = weights(loaded)
    reference = {
        pair.pair: (
            math.fsum(naive.read(loaded, pair.prompt_ids, pair.preferred_ids).logprobs),
            math.fsum(naive.read(loaded, pair.prompt_ids, pair.dispreferred_ids).logprobs),
        )
        for pair in PAIRS
    }
    settings = {"optimizer": "sgd", "learning_rate": 1e-2, "sft_coef": 0.3, "max_steps": 1}
    config = TrainConfig(**{**BASE, **settings, "batch_size": 11, "batch_tokens": 64})
    loss, gradient = naive_gradient(load("untied llama"), PAIRS, config, reference)
    _, reporter, _ = run(tmp_path, loaded, **settings, batch_size=11, batch_tokens=64)
    assert reporter.metrics[0].loss == pytest.approx(loss, rel=1e-5)
    norm = math.sqrt(sum(g.square().sum().item() for g in gradient.values()))
    assert reporter.metrics[0].grad_norm == pytest.approx(norm, rel=1e-4)
    for name, after in weights(loaded).items():
        torch.testing.assert_close(
            (before[name] - after) / 1e-2, gradient[name], rtol=1e-2, atol=1e-4 * norm
        )
    for pair, both in reference.items():
        assert reporter.references[pair] == pytest.approx(both, rel=1e-5)


def test_accumulation_and_token_budget_give_the_full_batchs_step(tmp_path):
    results = []
    for i, cut in enumerate(
        [
            {"batch_size": 8},
            {"batch_size": 2, "gradient_accumulation": 4},
            {"batch_size": 1, "gradient_accumulation": 8},
            {"batch_size": 8, "batch_tokens": 40},
        ]
    ):
        # 11 pairs: the second step's batch is not full, and is weighted by its own size
        _, reporter, loaded = run(tmp_path / str(i), optimizer="sgd", epochs=1, **cut)
        results.append((reporter.metrics, weights(loaded)))
    full_metrics, full_weights = results[0]
    assert len(full_metrics) == 2
    for metrics, others in results[1:]:
        for metric, full in zip(metrics, full_metrics, strict=True):
            assert metric.loss == pytest.approx(full.loss, rel=1e-5)
            assert metric.grad_norm == pytest.approx(full.grad_norm, rel=1e-4)
        for name, full in full_weights.items():
            torch.testing.assert_close(others[name], full, rtol=1e-5, atol=1e-6)


def test_odpo_without_offsets_trains_as_dpo_bit_for_bit(tmp_path):
    zero = dict.fromkeys(range(len(PAIRS)), 0.0)
    _, plain, dpo = run(tmp_path / "dpo")
    _, reporter, odpo = run(tmp_path / "odpo", objective="odpo", inputs=PairInputs(zero))
    assert timeless(reporter.metrics) == timeless(plain.metrics)
    assert all(torch.equal(w, weights(odpo)[name]) for name, w in weights(dpo).items())


def test_an_offset_asks_for_a_margin_of_alpha_times_it(tmp_path):
    """At the first step the margin is zero: the loss is that of its absence."""
    inputs = PairInputs({pair.pair: 1.0 for pair in PAIRS})
    _, reporter, _ = run(tmp_path, objective="odpo", odpo_alpha=0.7, inputs=inputs, max_steps=1)
    assert reporter.metrics[0].loss == pytest.approx(math.log(1 + math.exp(0.7)), rel=1e-5)


def test_weights_scale_each_pairs_part_of_the_step(tmp_path):
    """Half the weight for all is half the gradient; a pair of weight zero does nothing."""
    settings = {"optimizer": "sgd", "batch_size": 11, "max_steps": 1, "sft_coef": 0.2}
    everyone = [pair.pair for pair in PAIRS]
    _, plain, _ = run(tmp_path / "plain", **settings)
    half = PairInputs(weights=dict.fromkeys(everyone, 0.5))
    _, halved, _ = run(tmp_path / "half", inputs=half, **settings)
    assert halved.metrics[0].loss == pytest.approx(plain.metrics[0].loss / 2, rel=1e-6)
    assert halved.metrics[0].grad_norm == pytest.approx(plain.metrics[0].grad_norm / 2, rel=1e-5)
    some = {pair: float(pair < 6) for pair in everyone}
    _, _, weighted = run(tmp_path / "some", inputs=PairInputs(weights=some), **settings)
    less = {**settings, "learning_rate": BASE["learning_rate"] * 6 / 11}
    _, _, kept = run(tmp_path / "kept", pairs=PAIRS[:6], **less)
    for name, weight in weights(weighted).items():
        torch.testing.assert_close(weight, weights(kept)[name], rtol=1e-5, atol=1e-7)


def test_calibration_keeps_the_losses_value_and_rescales_what_it_pushes(tmp_path):
    """One pair, so that the averages are its own: the gradient is a d+ s+ - d- s- / a."""
    pair = max(PAIRS, key=lambda pair: abs(len(pair.preferred_ids) - len(pair.dispreferred_ids)))
    settings = {"optimizer": "sgd", "learning_rate": 1e-2, "max_steps": 1, "pairs": [pair]}
    before = weights(load("untied llama"))
    _, plain, _ = run(tmp_path / "plain", load("untied llama"), **settings)
    loaded = load("untied llama")
    _, reporter, _ = run(tmp_path / "calibrated", loaded, reward_calibration=True, **settings)
    assert reporter.metrics[0].loss == plain.metrics[0].loss
    gradients = []
    model = load("untied llama").model
    for response in (pair.preferred_ids, pair.dispreferred_ids):
        logits = model(torch.tensor([[*pair.prompt_ids, *response]])).logits[0]
        first = len(pair.prompt_ids) - 1
        table = torch.log_softmax(logits[first : first + len(response)], -1)
        z = table.gather(1, torch.tensor(response)[:, None]).sum()
        gradients.append(dict(zip(before, torch.autograd.grad(z, model.parameters()), strict=True)))
    up, down = gradients
    a = math.sqrt(down["lm_head.weight"].norm() / up["lm_head.weight"].norm())  # r is 1 for dpo
    assert abs(a - 1) > 0.05, "a pair that needs no calibration proves nothing"
    for name, after in weights(loaded).items():
        expected = 1e-2 * 0.05 * (a * up[name] - down[name] / a)
        torch.testing.assert_close(after - before[name], expected, rtol=1e-2, atol=2e-6)


def test_calibration_averages_over_steps_however_these_are_split(tmp_path):
    whole = run(tmp_path / "whole", reward_calibration=True, optimizer="sgd")[1]
    parts = run(tmp_path / "parts", reward_calibration=True, optimizer="sgd", batch_tokens=40)[1]
    for metric, other in zip(whole.metrics, parts.metrics, strict=True):
        assert metric.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


def test_calibration_needs_a_linear_head(tmp_path):
    with pytest.raises(ValueError, match="reward_calibration needs the gradients at the output"):
        run(tmp_path, load("gemma2"), reward_calibration=True)


def test_tails_alone_make_length_desensitized_dpo_differ(tmp_path):
    """Of responses of the same length, weighing the longer one's tail changes nothing."""
    even = [pair for pair in PAIRS if len(pair.preferred_ids) == len(pair.dispreferred_ids)]
    uneven = [pair for pair in PAIRS if pair not in even]
    for pairs, is_same in ((even, True), (uneven, False)):
        _, plain, _ = run(tmp_path / f"a{is_same}", pairs=pairs)
        _, reporter, _ = run(tmp_path / f"b{is_same}", pairs=pairs, ld_alpha=0.2)
        assert (timeless(reporter.metrics) == timeless(plain.metrics)) is is_same


@dataclasses.dataclass
class KeepingBetween(KeepingReporter):
    """Also keeps the model as it is between the two phases."""

    loaded: Any = None
    between: Any = None

    def message(self, text):
        super().message(text)
        if "first phase" in text:
            self.between = copy.deepcopy(self.loaded)


def test_a_first_phase_is_a_run_on_both_responses_before_a_run_of_the_objective(tmp_path):
    """Its second phase is what a run of its own from that model is, to the last bit."""
    config = {"optimizer": "rmsprop", "scheduler": "linear", "warmup_steps": 2, "shuffle": False}
    whole = {"extend_sft_epochs": 3, "max_steps": 4, **config}
    loaded = load()
    kept = KeepingBetween(loaded=loaded)
    summary, both, _ = run(tmp_path / "both", loaded, reporter=kept, **whole)
    first, second = both.metrics[:9], both.metrics[9:]
    assert [metric.step for metric in both.metrics] == list(range(1, 14))
    assert all(metric.margin is None and metric.accuracy is None for metric in first)
    assert first[6].loss < first[0].loss  # of the same pairs, two epochs later
    assert first[6].dispreferred_logprob > first[0].dispreferred_logprob
    assert second[0].margin == pytest.approx(0, abs=1e-5)

    assert kept.between is not None
    _, alone, own = run(tmp_path / "second", kept.between, max_steps=4, **config)
    again = [
        dataclasses.replace(metric, step=metric.step + 9, tokens_seen=0)
        for metric in timeless(alone.metrics)
    ]
    assert [dataclasses.replace(m, tokens_seen=0) for m in timeless(second)] == again
    assert all(torch.equal(w, weights(own)[name]) for name, w in weights(loaded).items())
    assert both.references == alone.references
    assert summary["steps"] == 13


LORA = {"rank": 2, "dropout": 0.2}


@pytest.mark.parametrize("config", [{}, {"lora": LORA}, {"optimizer": "rmsprop"}])
def test_same_seed_gives_the_same_curve_bit_for_bit(tmp_path, config):
    first = run(tmp_path / "a", **config)[1]
    second = run(tmp_path / "b", **config)[1]
    assert timeless(first.metrics) == timeless(second.metrics)
    assert first.probe_steps == second.probe_steps


def test_another_seed_takes_the_pairs_in_another_order(tmp_path):
    first = run(tmp_path / "a", seed=0)[1]
    second = run(tmp_path / "b", seed=1)[1]
    assert [m.loss for m in first.metrics] != [m.loss for m in second.metrics]


def test_unshuffled_pairs_come_in_their_order(tmp_path):
    reference = {pair.pair: (float(pair.pair), 0.0) for pair in PAIRS}
    _, reporter, _ = run(tmp_path, shuffle=False, epochs=1, reference=reference)
    first = [m.preferred_logprob - m.preferred_change for m in reporter.metrics]
    assert first == pytest.approx([1.5, 5.5, 9.0], abs=1e-4)


@pytest.mark.parametrize(
    ("config", "checks"),
    [
        *(({}, checks) for checks in range(1, 22)),
        *(({"lora": LORA}, checks) for checks in (15, 18)),
        *(({"ld_alpha": 0.3}, checks) for checks in (3, 18)),
        ({"objective": "dpo_shift", "dpo_shift_schedule": "linear"}, 18),
        *(({"reward_calibration": True}, checks) for checks in (14, 15, 18, 21)),
        *(({"extend_sft_epochs": 1}, checks) for checks in range(6, 32, 3)),
        ({"extend_sft_epochs": 1, "lora": LORA, "reward_calibration": True}, 24),
        ({"extend_sft_epochs": 1, "ld_alpha": 0.3}, 24),
    ],
)
def test_interrupted_run_goes_on_bit_for_bit(tmp_path, config, checks):
    """Wherever it stops (reference, step, probes), the curves are those of an undisturbed run."""
    config = {"batch_tokens": 48, "optimizer": "adamw", **config}
    summary, whole, loaded = run(tmp_path / "whole", **config)
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        run(tmp_path / "parts", control=StopAfter(checks), reporter=reporter, **config)
    done = len(reporter.metrics)
    assert checkpoints.exists(tmp_path / "parts") == (done > 0)
    again, reporter, resumed = run(
        tmp_path / "parts", reporter=reporter, reference=dict(reporter.references), **config
    )
    assert done > 0 or checks < 15
    assert timeless(reporter.metrics) == timeless(whole.metrics)
    steps = {(record.pair, record.step): record for record in reporter.probe_steps}
    assert list(steps.values()) == whole.probe_steps
    for name, weight in weights(loaded).items():
        assert torch.equal(weight, weights(resumed)[name])
    assert again["probes"] == summary["probes"]
    assert again["final_loss"] == summary["final_loss"]


WATCHED = {
    "probes": {"prompts": [{"prompt": "Is it the end?", "watch": ["Yes"]}]},
    "ledger_positions": {"preferred": "all", "dispreferred": [1, 2]},
    "answer_every": 3,
    "answer_tokens": 2,
}


def everything(reporter):
    """What was recorded last under each key, in the order of the keys."""
    kept: dict[str, dict[Any, Any]] = {
        "steps": {(r.pair, r.step): r for r in reporter.probe_steps},
        "positions": {(r.pair, r.response, r.position, r.step): r for r in reporter.position_steps},
        "answers": {(r.pair, r.step): r for r in reporter.answers},
        "finals": {r.pair: r for r in reporter.final_records},
    }
    return {name: dict(sorted(records.items())) for name, records in kept.items()}


@pytest.mark.parametrize("checks", range(13, 47, 2))
def test_resumed_run_records_the_same_ledgers_and_answers(tmp_path, checks):
    """Those since the previous record too, wherever the run stops, the last measuring included."""
    config = {**WATCHED, "max_steps": 4}
    summary, whole, _ = run(tmp_path / "whole", **config)
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        run(tmp_path / "parts", control=StopAfter(checks), reporter=reporter, **config)
    again, reporter, _ = run(
        tmp_path / "parts", reporter=reporter, reference=dict(reporter.references), **config
    )
    assert everything(reporter) == everything(whole)
    assert reporter.probes[: len(whole.probes)] == whole.probes
    assert reporter.positions[: len(whole.positions)] == whole.positions
    for name in ("probes", "prompts", "displacement"):
        assert again[name] == summary[name]


@pytest.mark.parametrize("config", [{}, {"lora": LORA}])
def test_watching_changes_no_bit_of_the_training(tmp_path, config):
    """Answers, ledgers and the last measuring draw no random number and leave no gradient."""
    quiet = {"probe_every": 1000, "measure_displacement": False}
    _, plain, loaded = run(tmp_path / "plain", **config, **quiet)
    watched = {**WATCHED, "answer_every": 1, "probe_every": 1}
    _, reporter, other = run(tmp_path / "watched", **config, **watched)
    assert len(reporter.answers) == 4 * 7
    assert len(plain.answers) == 0
    assert timeless(reporter.metrics) == timeless(plain.metrics)
    for name, weight in weights(loaded).items():
        assert torch.equal(weight, weights(other)[name])


def test_after_the_last_step_every_trained_pair_is_measured(tmp_path):
    summary, reporter, loaded = run(tmp_path)
    assert sorted(record.pair for record in reporter.final_records) == [p.pair for p in PAIRS]
    for record in reporter.final_records[:3]:
        pair = PAIRS[record.pair]
        now = math.fsum(naive.read(loaded, pair.prompt_ids, pair.preferred_ids).logprobs)
        assert record.final_preferred == pytest.approx(now, rel=1e-4)
        assert (record.preferred, record.dispreferred) == reporter.references[record.pair]
    assert summary["displacement"]["measured"] == len(PAIRS)
    assert reporter.progresses[-1] == (6, 6, "steps")


def test_measuring_can_be_left_out(tmp_path):
    summary, reporter, _ = run(tmp_path, measure_displacement=False)
    assert (reporter.final_records, summary["displacement"]) == ([], None)


def test_run_that_dies_goes_on_from_its_last_checkpoint(tmp_path):
    class Dies(GoOn):
        left = 24

        def check(self):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    _, whole, _ = run(tmp_path / "whole", checkpoint_every=2)
    reporter = KeepingReporter()
    dies = Dies()
    dies.left = 9
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", control=dies, reporter=reporter, checkpoint_every=2)
    assert checkpoints.exists(tmp_path / "parts")
    _, reporter, _ = run(tmp_path / "parts", reporter=reporter, checkpoint_every=2)
    last = {metric.step: metric for metric in timeless(reporter.metrics)}
    assert [last[step] for step in sorted(last)] == timeless(whole.metrics)


def test_records_are_stored_before_the_checkpoint_says_they_are(tmp_path):
    _, reporter, _ = run(tmp_path, checkpoint_every=2)
    assert reporter.flushes == 2  # steps 2 and 4; step 6 is the last


def test_a_checkpoint_is_told_of_once_it_is_there(tmp_path):
    class Look(KeepingReporter):
        def checkpointed(self):
            assert checkpoints.exists(tmp_path)
            super().checkpointed()

    _, reporter, _ = run(tmp_path, reporter=Look(), checkpoint_every=2)
    assert reporter.checkpoints == 2


def test_a_run_that_does_not_say_how_often_has_checkpoints_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE_OF_TIME", math.inf)
    _, reporter, _ = run(tmp_path)
    assert reporter.checkpoints == 5  # after each step but the last


def test_cancelled_run_leaves_no_checkpoint_behind(tmp_path):
    class Cancel(GoOn):
        def check(self):
            raise RunCancelledError("no longer wanted")

    with pytest.raises(RunCancelledError):
        run(tmp_path, control=Cancel())
    assert not checkpoints.exists(tmp_path)


def test_a_reference_computed_in_two_tries_is_that_of_one_bit_for_bit(tmp_path):
    _, whole, _ = run(tmp_path / "whole", batch_tokens=128)
    reporter = KeepingReporter()
    with pytest.raises(RunInterruptedError):
        run(tmp_path / "parts", control=StopAfter(2), reporter=reporter, batch_tokens=128)
    assert 0 < len(reporter.references) < len(PAIRS)
    _, reporter, _ = run(
        tmp_path / "parts", reporter=reporter, reference=reporter.references, batch_tokens=128
    )
    assert reporter.references == whole.references


def test_known_reference_is_not_computed_again(tmp_path):
    known = {pair.pair: (-1.0, -2.0) for pair in PAIRS[:-2]}
    _, reporter, _ = run(tmp_path, reference=known)
    assert set(reporter.references) == {PAIRS[-2].pair, PAIRS[-1].pair}


def test_first_step_starts_at_the_reference(tmp_path):
    _, reporter, _ = run(tmp_path)
    first = reporter.metrics[0]
    assert first.step == 1
    assert first.loss == pytest.approx(math.log(2), abs=1e-5)
    assert first.margin == pytest.approx(0, abs=1e-4)
    assert first.preferred_change == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("objective", ["dpo", "ipo", "slic", "simpo", "dpop", "cross_entropy"])
def test_every_objective_lowers_its_loss_and_reports_changes(tmp_path, objective):
    _, reporter, _ = run(tmp_path, objective=objective, epochs=4, batch_size=11, probe_every=50)
    assert reporter.metrics[-1].loss < reporter.metrics[0].loss
    assert all(metric.preferred_change is not None for metric in reporter.metrics)
    assert [metric.step for metric in reporter.metrics] == [1, 2, 3, 4]


def test_probes_are_seen_first_every_so_often_and_last(tmp_path):
    _, reporter, _ = run(tmp_path, probe_every=4)
    assert sorted({record.step for record in reporter.probe_steps}) == [0, 4, 6]
    assert len(reporter.probes) == len(PROBES)


def test_steps_stop_at_max_steps(tmp_path):
    summary, reporter, _ = run(tmp_path, max_steps=2)
    assert summary["steps"] == len(reporter.metrics) == 2
    assert reporter.progresses[-1] == (2, 2, "steps")


def test_summary_tells_what_became_of_the_probes(tmp_path):
    summary, reporter, loaded = run(tmp_path)
    changes = []
    for pair, probe in zip(PROBES, summary["probes"], strict=True):
        now = math.fsum(naive.read(loaded, pair.prompt_ids, pair.preferred_ids).logprobs)
        assert probe["preferred_change"] == pytest.approx(
            now - reporter.references[pair.pair][0], abs=1e-3
        )
        changes.append(probe["preferred_change"])
    assert summary["preferred_change"] == pytest.approx(sum(changes) / 3)
    assert summary["final_loss"] == reporter.metrics[-1].loss
    assert summary["tokens_seen"] == 2 * sum(pair.tokens for pair in PAIRS)
    assert 0 <= summary["displaced_fraction"] <= 1


def test_adapters_alone_are_trained_and_the_reference_is_the_model_without(tmp_path):
    loaded = load()
    before = copy.deepcopy(loaded.model.state_dict())
    summary, reporter, loaded = run(tmp_path, loaded, lora={"rank": 2}, learning_rate=1e-2)
    base = loaded.model.get_base_model().state_dict()
    assert summary["parameters_trained"] < sum(w.numel() for w in before.values()) / 4
    for name, weight in before.items():
        kept = name.replace("_proj.weight", "_proj.base_layer.weight")
        assert torch.equal(base[kept if kept in base else name], weight)
    assert reporter.metrics[-1].loss < math.log(2)


def test_bfloat16_computes_narrow_and_keeps_float32_weights(tmp_path):
    """A step of 1e-7 rounds away in bfloat16 weights, and must not be lost."""
    loaded = load()
    loaded.compute_dtype = torch.bfloat16
    before = weights(loaded)
    run(tmp_path, loaded, optimizer="adamw", learning_rate=1e-7)
    after = weights(loaded)
    assert all(weight.dtype == torch.float32 for weight in after.values())
    assert any(not torch.equal(before[name], weight) for name, weight in after.items())
    assert all((before[name] - weight).abs().max() < 1e-5 for name, weight in after.items())


def test_capped_logits_are_trained_on_the_plain_path(tmp_path):
    summary, reporter, _ = run(tmp_path, load("gemma2"), epochs=3)
    assert summary["forward"] == "two forwards"
    assert reporter.metrics[-1].loss < reporter.metrics[0].loss


def test_clipping_limits_the_step_and_records_the_whole_norm(tmp_path):
    settings = {"optimizer": "sgd", "learning_rate": 1.0, "max_steps": 1}
    loaded = load()
    before = weights(loaded)
    _, reporter, _ = run(tmp_path, loaded, max_grad_norm=1e-3, **settings)
    moved = math.sqrt(
        sum((before[n] - w).double().square().sum().item() for n, w in weights(loaded).items())
    )
    assert reporter.metrics[0].grad_norm > 0.1
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_loss_that_is_no_number_stops_the_run_and_says_what_to_do(tmp_path):
    nowhere = {pair.pair: (math.nan, 0.0) for pair in PAIRS}
    reporter = KeepingReporter()
    loaded = load()
    before = weights(loaded)
    with pytest.raises(TrainingDivergedError, match=r"step 3\. Lower the learning rate"):
        run(tmp_path, loaded, reporter=reporter, reference=nowhere)
    assert [math.isnan(metric.loss or 0) for metric in reporter.metrics] == [True] * 3
    assert all(torch.equal(before[name], weight) for name, weight in weights(loaded).items())


def test_out_of_memory_halves_the_budget_and_repeats_the_step(tmp_path, monkeypatch):
    plain = StepGradient._backward

    def run_out(self, micro, *rest):
        plain(self, micro, *rest)
        if sum(pair.tokens for pair in micro) > 45:
            raise torch.OutOfMemoryError("no memory")

    _, whole, _ = run(tmp_path / "whole")
    monkeypatch.setattr(StepGradient, "_backward", run_out)
    _, reporter, _ = run(tmp_path / "parts", batch_tokens=256)
    assert any("Out of GPU memory" in message for message in reporter.messages)
    for metric, expected in zip(reporter.metrics, whole.metrics, strict=True):
        assert metric.grad_norm == pytest.approx(expected.grad_norm, rel=1e-3)


def test_nothing_to_train_on_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no pairs"):
        run(tmp_path, pairs=[])


@pytest.mark.parametrize(
    ("dtype", "learning_rate", "told"),
    [
        (torch.bfloat16, 1e-7, True),
        (torch.bfloat16, 1e-1, False),
        (torch.float32, 1e-7, False),
    ],
)
def test_steps_below_the_rounding_of_bfloat16_are_told(
    dtype, learning_rate, told, tmp_path, reporter
):
    loaded = load()
    loaded.compute_dtype = dtype
    config = TrainConfig(learning_rate=learning_rate, max_steps=2, probes={"count": 0})
    train(loaded, random_pairs(4), config, reporter, GoOn(), tmp_path, [])
    assert any("rounded by in bfloat16" in message for message in reporter.messages) is told
