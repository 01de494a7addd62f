"""A predicted first step against an actual step of the optimizers that training uses."""

import copy

import pytest
import torch

from chesboard.configs import PreflightConfig, TrainConfig
from chesboard.forward.packing import row_tokens
from chesboard.forward.two_pass import TwoPassForward
from chesboard.objectives import losses
from chesboard.preflight import look, run
from chesboard.preflight.direction import at_reference, first_step
from chesboard.preflight.gradients import changes_along
from chesboard.preflight.run import preflight_pairs
from chesboard.preflight.tangents import fork_change
from chesboard.probing.ranks import spearman
from chesboard.reporting import RunInterruptedError
from tests.tiny_models import END, GoOn, KeepingReporter, StopAfter, load, make_pair, random_pairs
from worker.training.optim import make_optimizer

PAIRS = [pair for pair in random_pairs(7, seed=11) if not pair.has_same_tokens]
RATES = {"sgd": 1e-6, "rmsprop": 1e-8, "adamw": 1e-7}


def gpt2(tied: bool):
    """Computes in float64 throughout where its weights are (Llama's norms stay in float32)."""
    loaded = load("gpt2")
    if not tied:
        head = loaded.model.get_output_embeddings()
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(head.weight.shape, generator=generator) / 4
        head.weight = torch.nn.Parameter(head.weight.detach() + noise)
        loaded.model.config.tie_word_embeddings = False
    return loaded


def stepped(loaded, pair, config):
    """A float64 copy of the model after one actual step on one pair, and the weights' changes."""
    moved = copy.deepcopy(loaded)
    moved.model.double().requires_grad_(True)
    moved.compute_dtype = torch.float64
    before = {name: weight.detach().clone() for name, weight in moved.model.named_parameters()}
    optimizer = make_optimizer(moved.model.parameters(), TrainConfig(**config.model_dump()))
    states = TwoPassForward(moved)([pair])
    both = states.preferred_logprobs_B(), states.dispreferred_logprobs_B()
    losses(at_reference(both, pair), config).sum().backward()
    optimizer.step()
    moved.model.requires_grad_(False)
    after = dict(moved.model.named_parameters())
    return moved, {name: after[name] - before[name] for name in before}


def exact_logprobs(loaded, pairs):
    """float64 log p(y+) and log p(y-) of the pairs: the states' own are rounded to float32."""
    found = []
    for pair in pairs:
        row = []
        for response in (pair.preferred_ids, pair.dispreferred_ids):
            ids = torch.tensor([[*pair.prompt_ids, *response]])
            logits = loaded.model(ids, use_cache=False).logits[0, len(pair.prompt_ids) - 1 : -1]
            picked = logits.log_softmax(-1)[torch.arange(len(response)), torch.tensor(response)]
            row.append(float(picked.sum()))
        found.append(row)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("objective", ["dpo", "ipo", "simpo"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
def test_the_prediction_is_what_an_actual_step_does(optimizer, objective, tied):
    loaded = gpt2(tied)
    config = PreflightConfig(
        objective=objective, optimizer=optimizer, learning_rate=RATES[optimizer], sft_coef=0.02
    )
    forward = TwoPassForward(loaded)
    _, direction = first_step(loaded, forward, PAIRS[0], config)
    predicted = [changes_along(loaded, forward, pair, [direction])[0] for pair in PAIRS]
    moved, _ = stepped(loaded, PAIRS[0], config)
    start = copy.deepcopy(loaded)
    start.model.double()
    with torch.no_grad():
        measured_B2 = exact_logprobs(moved, PAIRS) - exact_logprobs(start, PAIRS)
    predicted_B2 = torch.tensor(predicted, dtype=torch.float64)
    error = (predicted_B2 - measured_B2).norm() / measured_B2.norm()
    assert error < 5e-3, (predicted_B2, measured_B2)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
def test_the_step_is_that_of_the_optimizer_with_its_weight_decay(optimizer):
    loaded = gpt2(tied=True)  # has biases, which do not decay
    config = PreflightConfig(optimizer=optimizer, learning_rate=0.01, weight_decay=0.3)
    # In float64: the sign of a gradient that cancels to nothing is rounding in float32.
    exact = copy.deepcopy(loaded)
    exact.model.double()
    exact.compute_dtype = torch.float64
    _, direction = first_step(exact, TwoPassForward(exact), PAIRS[1], config)
    _, moved = stepped(loaded, PAIRS[1], config)
    for name, change in moved.items():
        torch.testing.assert_close(direction[name], change, rtol=1e-6, atol=1e-12)


def test_the_fork_moves_as_an_actual_step_moves_it():
    loaded = gpt2(tied=True)
    config = PreflightConfig(optimizer="rmsprop", learning_rate=1e-8)
    pair = PAIRS[0]
    _, direction = first_step(loaded, TwoPassForward(loaded), pair, config)
    _, change_V = fork_change(loaded, pair, direction)
    moved, _ = stepped(loaded, pair, config)
    start = copy.deepcopy(loaded)
    start.model.double()
    ids = torch.tensor([[*pair.prompt_ids, *pair.preferred_ids[: pair.fork_position]]])
    with torch.no_grad():
        after, before = (one.model(ids).logits[0, -1].softmax(-1) for one in (moved, start))
    measured_V = after - before
    assert (change_V - measured_V).norm() / measured_V.norm() < 5e-3


def near_identical(count: int):
    """Pairs whose responses differ in one token of many, the same tokens around it."""
    drawn = random_pairs(count, seed=5, longest=10)
    return [
        make_pair(
            100 + k,
            pair.prompt_ids,
            [*pair.preferred_ids[:-1], 5 + k, 7, 9, END],
            [*pair.preferred_ids[:-1], 6 + k, 7, 9, END],
        )
        for k, pair in enumerate(drawn)
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_pairs_trained_alone_are_ranked_and_signed_as_predicted(optimizer):
    """The bar of a pre-flight: a rank correlation of .95 on 64 pairs, each trained alone."""
    loaded = gpt2(tied=True)
    pairs = [*[p for p in random_pairs(40, seed=8) if not p.has_same_tokens], *near_identical(30)]
    pairs = pairs[:64]
    config = PreflightConfig(optimizer=optimizer, learning_rate=RATES[optimizer])
    start = copy.deepcopy(loaded)
    start.model.double()
    with torch.no_grad():
        before_B2 = exact_logprobs(start, pairs)
    predicted, measured = [], []
    for b, pair in enumerate(pairs):
        _, direction = first_step(loaded, TwoPassForward(loaded), pair, config)
        ((change, _),) = changes_along(loaded, TwoPassForward(loaded), pair, [direction])
        predicted.append(change)
        moved, _ = stepped(loaded, pair, config)
        with torch.no_grad():
            measured.append(float((exact_logprobs(moved, [pair]) - before_B2[b])[0, 0]))
    agreement = spearman(predicted, measured)
    assert agreement is not None
    assert agreement > 0.99
    hits = [(a < 0) == (b < 0) for a, b in zip(predicted, measured, strict=True)]
    assert sum(hits) >= 63
    assert any(change < 0 for change in measured)


def test_a_record_of_each_pair_holds_its_row_of_the_matrix_and_its_fork():
    loaded = load("llama")
    reporter = KeepingReporter()
    pairs = random_pairs(6, seed=2)  # one has the same tokens twice
    config = PreflightConfig(optimizer="sgd", learning_rate=1e-3, batch_tokens=64)
    summary = preflight_pairs(loaded, pairs, config, reporter, GoOn())
    records = reporter.preflights
    numbers = [pair.pair for pair in pairs if not pair.has_same_tokens]
    assert [record.pair for record in records] == numbers
    for k, record in enumerate(records):
        assert record.pairs == numbers
        assert record.influence_preferred[k] == record.preferred_change
        assert record.influence_dispreferred[k] == record.dispreferred_change
        changes = [entry["change"] for entry in [*record.gainers, *record.losers]]
        assert sum(changes) + record.rest_change == pytest.approx(0, abs=1e-12)
        assert record.interference is not None
        assert len(record.interference) == record.preferred_count * record.dispreferred_count
    assert summary["pairs"] == len(numbers)
    assert summary["falling"] == sum(record.preferred_change < 0 for record in records)
    assert any("take no part" in message for message in reporter.messages)
    assert reporter.progresses[-1] == (25, 25, "steps")


def test_pairs_of_an_earlier_attempt_are_not_computed_again():
    loaded = load("llama")
    first, again = KeepingReporter(), KeepingReporter()
    config = PreflightConfig(optimizer="rmsprop")
    whole = preflight_pairs(loaded, PAIRS, config, first, GoOn())
    done = {record.pair: record.preferred_change for record in first.preflights[:2]}
    resumed = preflight_pairs(loaded, PAIRS, config, again, GoOn(), done)
    assert again.preflights == first.preflights[2:]
    assert resumed["falling"] == whole["falling"]
    assert again.progresses[0][0] == 2 * len(PAIRS)


def test_as_many_steps_are_kept_as_there_is_memory_for(monkeypatch):
    loaded = load("llama")
    whole, apart = KeepingReporter(), KeepingReporter()
    config = PreflightConfig(optimizer="rmsprop")
    preflight_pairs(loaded, PAIRS, config, whole, GoOn())
    monkeypatch.setattr(run, "directions_at_once", lambda _: 2)
    preflight_pairs(loaded, PAIRS, config, apart, GoOn())
    assert apart.preflights == whole.preflights
    for reporter in (whole, apart):
        done = [done for done, _, _ in reporter.progresses]
        assert done == sorted(done)
        assert done[-1] == len(PAIRS) ** 2
        assert 0 < done[1] < len(PAIRS) ** 2  # the time left is known after the first step


def out_of_memory_beyond(monkeypatch, most: int):
    def changes(loaded, forward, pair, directions):
        if len(directions) > most:
            raise torch.OutOfMemoryError
        return changes_along(loaded, forward, pair, directions)

    monkeypatch.setattr(look, "changes_along", changes)


def test_fewer_steps_are_kept_where_memory_runs_out(monkeypatch):
    loaded = load("llama")
    calm, short = KeepingReporter(), KeepingReporter()
    config = PreflightConfig(optimizer="rmsprop")
    preflight_pairs(loaded, PAIRS, config, calm, GoOn())
    out_of_memory_beyond(monkeypatch, 2)
    preflight_pairs(loaded, PAIRS, config, short, GoOn())
    assert short.preflights == calm.preflights
    assert any("Out of GPU memory" in message for message in short.messages)


def test_a_pair_that_does_not_fit_by_itself_is_named(monkeypatch):
    out_of_memory_beyond(monkeypatch, 0)
    longest = max(PAIRS, key=row_tokens)
    with pytest.raises(MemoryError, match=f"Pair {longest.pair} alone does not fit"):
        preflight_pairs(load("llama"), PAIRS, PreflightConfig(), KeepingReporter(), GoOn())


def test_it_can_be_stopped_before_every_pass():
    loaded = load("llama")
    for passes in (0, 1, len(PAIRS), 2 * len(PAIRS) - 1):
        reporter = KeepingReporter()
        with pytest.raises(RunInterruptedError):
            preflight_pairs(loaded, PAIRS, PreflightConfig(), reporter, StopAfter(passes))
        assert not reporter.preflights


class Doubling(torch.autograd.Function):
    """Has no forward-mode derivative."""

    @staticmethod
    def forward(ctx, hidden):
        return 2 * hidden

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_model_without_forward_mode_lacks_only_what_happens_at_the_forks():
    loaded, reporter = load("llama"), KeepingReporter()
    loaded.model.model.norm.register_forward_hook(lambda _, __, hidden: Doubling.apply(hidden))
    preflight_pairs(loaded, PAIRS, PreflightConfig(optimizer="sgd"), reporter, GoOn())
    assert len(reporter.preflights) == len(PAIRS)
    for record in reporter.preflights:
        assert (record.gainers, record.losers, record.rest_change) == ([], [], 0)
        assert record.preferred_change != 0
    assert sum("without forward-mode derivative" in text for text in reporter.messages) == 1


def test_the_interference_map_sums_to_what_the_head_is_scored_by():
    loaded = load("llama")
    reporter = KeepingReporter()
    preflight_pairs(loaded, PAIRS, PreflightConfig(), reporter, GoOn())
    with torch.no_grad():
        gram = TwoPassForward(loaded)(PAIRS, gram=True).head_gram
    assert gram is not None
    for b, record in enumerate(reporter.preflights):
        assert record.own is not None
        assert record.pulls is not None
        assert record.interference is not None
        assert record.own == pytest.approx(float(gram.preferred_B[b]), rel=1e-4)
        assert record.pull == pytest.approx(float(gram.cross_B[b]), rel=1e-4, abs=1e-4 * record.own)
        assert sum(record.pulls) == pytest.approx(record.pull, rel=1e-9)
        assert sum(record.interference) == pytest.approx(record.pull, rel=1e-9)


def test_a_model_that_caps_its_logits_has_no_map():
    loaded = load("gemma2")
    reporter = KeepingReporter()
    preflight_pairs(loaded, PAIRS[:2], PreflightConfig(optimizer="sgd"), reporter, GoOn())
    assert [record.interference for record in reporter.preflights] == [None, None]
    assert all(record.gainers for record in reporter.preflights)
