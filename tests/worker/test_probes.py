import math
from dataclasses import replace

import pytest
import torch

from app.runs.configs import TrainConfig
from tests.worker import naive
from tests.worker.conftest import END, GoOn, KeepingSink, load, make_pair, random_pairs
from worker.forward import SharedPrefixForward
from worker.probes import Probes, resolve_groups
from worker.tokenising import RawPair, tokenise_pairs

PAIRS = random_pairs(6)  # pair 4 is identical
GROUPS = {"affirmative": ["Yes", "zebra"], "negative": ["No"]}


def watch(loaded, pairs=PAIRS, **config):
    sink = KeepingSink()
    config = TrainConfig(token_groups=GROUPS, ledger_top=4, **config)
    probes = Probes(loaded, SharedPrefixForward(loaded), pairs, config, sink, GoOn())
    probes.begin()
    return probes, sink


def shake(loaded):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)


@pytest.fixture
def moved(llama):
    """Probes before and after the weights changed."""
    probes, sink = watch(llama)
    before = [naive.read(llama, p.prompt_ids, p.preferred_ids) for p in PAIRS]
    shake(llama)
    probes.observe(7)
    return llama, probes, sink, before


def test_step_equals_the_naive_view_of_both_responses(moved):
    loaded, _, sink, before = moved
    for pair, first, record in zip(PAIRS, before, sink.probe_steps[len(PAIRS) :], strict=True):
        preferred = naive.read(loaded, pair.prompt_ids, pair.preferred_ids)
        dispreferred = naive.read(loaded, pair.prompt_ids, pair.dispreferred_ids)
        assert (record.pair, record.step) == (pair.pair, 7)
        assert record.preferred_logprobs == pytest.approx(preferred.logprobs, abs=1e-4)
        assert record.dispreferred_logprobs == pytest.approx(dispreferred.logprobs, abs=1e-4)
        fork = pair.fork_position
        initial, now = first.distributions[fork], preferred.distributions[fork]
        assert record.preferred_prob == pytest.approx(
            now[pair.preferred_ids[fork]].item(), abs=1e-5
        )
        assert record.ledger.moved_mass == pytest.approx(
            (now - initial).abs().sum().item() / 2, abs=1e-5
        )
        for entry in [*record.ledger.gainers, *record.ledger.losers]:
            assert entry.initial == pytest.approx(initial[entry.token_id].item(), abs=1e-5)
            assert entry.final == pytest.approx(now[entry.token_id].item(), abs=1e-5)
        best = (now - initial).topk(4).indices.tolist()
        assert [entry.token_id for entry in record.ledger.gainers] == best


def test_every_ledger_balances(moved):
    _, _, sink, _ = moved
    for record in sink.probe_steps:
        listed = sum(entry.change for entry in [*record.ledger.gainers, *record.ledger.losers])
        assert listed + record.ledger.rest_change == pytest.approx(0, abs=1e-6)


def test_step_zero_has_moved_nothing(moved):
    _, _, sink, _ = moved
    for record in sink.probe_steps[: len(PAIRS)]:
        assert (
            record.step,
            record.ledger.gainers,
            record.ledger.losers,
            record.ledger.moved_mass,
        ) == (0, [], [], 0)


def test_probabilities_at_the_fork_add_up_to_one(moved):
    _, _, sink, _ = moved
    for record in sink.probe_steps:
        both = record.preferred_prob + (0 if record.pair == 4 else record.dispreferred_prob)
        assert both + record.other_prob == pytest.approx(1, abs=1e-9)


def test_watched_tokens_hold_both_forks_and_the_groups(moved):
    loaded, _, sink, _ = moved
    for pair, probe in zip(PAIRS, sink.probes, strict=True):
        ids = [token["token_id"] for token in probe.watched]
        fork = pair.fork_position
        assert {pair.preferred_ids[fork], pair.dispreferred_ids[fork]} <= set(ids)
        texts = [token["token"] for token in probe.watched]
        assert {"Yes", " Yes", "No", " No"} <= set(texts)
        assert len(set(ids)) == len(ids) <= 110
        last = sink.probe_steps[-len(PAIRS) + pair.pair]
        assert len(last.ledger.watched_probs) == len(ids)
        assert last.ledger.watched_probs[0] == last.preferred_prob
        assert loaded.tokenizer.decode(pair.prompt_ids).replace("\0", "<00>") == probe.prompt


def test_groups_sum_their_tokens_and_leave_out_longer_words(moved):
    _, _, sink, _ = moved
    probe, record = sink.probes[0], sink.probe_steps[-len(PAIRS)]
    assert probe.groups == [
        {"name": "affirmative", "tokens": ["Yes", " Yes"]},
        {"name": "negative", "tokens": ["No", " No"]},
    ]
    by_text = dict(
        zip([token["token"] for token in probe.watched], record.ledger.watched_probs, strict=True)
    )
    assert record.group_probs[0] == pytest.approx(by_text["Yes"] + by_text[" Yes"])
    said = [message for message in sink.messages if "zebra" in message]
    assert len(said) == 1
    assert "more than one token" in said[0]


def test_identical_responses_fork_at_their_last_token_and_predict_nothing(moved):
    _, _, sink, _ = moved
    probe = sink.probes[4]
    assert probe.fork_position == len(probe.preferred_tokens) - 1
    assert all(token["predicted"] == 0 for token in probe.watched)


def test_gainers_carry_the_prediction_of_step_zero(moved):
    _, probes, sink, _ = moved
    predicted_V = probes.state(8).tensors["0.fork.predicted"]
    for entry in sink.probe_steps[-len(PAIRS)].ledger.gainers:
        assert entry.predicted == predicted_V[entry.token_id].item()


def test_summary_tells_changes_and_where_the_mass_went(moved):
    _, probes, sink, before = moved
    summary, last = probes.summarise()[0], sink.probe_steps[-len(PAIRS)]
    assert summary["pair"] == 0
    assert summary["preferred_change"] == pytest.approx(
        sum(last.preferred_logprobs) - math.fsum(before[0].logprobs), abs=1e-4
    )
    assert summary["fork"]["preferred_final"] == last.preferred_prob
    assert summary["top_gainers"] == [
        {"token": entry.token, "change": entry.change} for entry in last.ledger.gainers[:3]
    ]


def test_resumed_probes_compare_with_the_first_start(llama):
    probes, _ = watch(llama)
    shake(llama)
    probes.observe(3)
    sink = KeepingSink()
    config = TrainConfig(token_groups=GROUPS, ledger_top=4)
    again = Probes(llama, SharedPrefixForward(llama), PAIRS, config, sink, GoOn())
    again.go_on(probes.state(3))
    again.observe(3)
    assert again.summarise() == probes.summarise()
    assert sink.probes == []
    assert sink.messages == []


def test_no_probes_record_nothing(llama):
    probes, sink = watch(llama, pairs=[])
    probes.observe(1)
    assert (sink.probes, sink.probe_steps, probes.summarise()) == ([], [], [])


def test_preference_predicts_along_the_difference_of_the_fork_tokens(llama):
    probes, _ = watch(llama)
    W = llama.model.get_output_embeddings().weight.detach().double()
    for pair in PAIRS:
        seen, fork = naive.read(llama, pair.prompt_ids, pair.preferred_ids), pair.fork_position
        p = seen.distributions[fork]
        along = W @ (W[pair.preferred_ids[fork]] - W[pair.dispreferred_ids[fork]])
        expected = p * (along - (p * along).sum())
        torch.testing.assert_close(
            probes.state(1).tensors[f"{pair.pair}.fork.predicted"].double(),
            expected,
            rtol=1e-3,
            atol=1e-4,
        )


def test_cross_entropy_predicts_that_the_preferred_token_gains(llama):
    probes, _ = watch(llama, objective="cross_entropy")
    for pair in PAIRS:
        predicted_V = probes.state(1).tensors[f"{pair.pair}.fork.predicted"]
        assert predicted_V[pair.preferred_ids[pair.fork_position]] > 0


def test_word_is_resolved_where_the_context_makes_it_one_token(tokenizer):
    """Behind a line break, b is one token with it and so has no form of its own."""
    pair = tokenise_pairs(tokenizer, [RawPair(0, "Say\n", "x", "y")], 64, 64)[0]
    said = []
    groups = resolve_groups(
        tokenizer, pair.prompt_ids, {"g": ["Yes", "esYes"]}, lambda *out: said.append(out)
    )
    assert groups == {"g": [*tokenizer("Yes")["input_ids"], *tokenizer(" Yes")["input_ids"]]}
    assert said == [("g", "esYes")]


def test_texts_of_null_bytes_can_be_stored():
    loaded = load()
    null = loaded.tokenizer.convert_tokens_to_ids("Ā")
    pair = replace(make_pair(0, [null], [null, END], [1, END]))
    _, sink = watch(loaded, pairs=[pair])
    assert "\x00" not in sink.probes[0].prompt
    assert "\x00" not in "".join(sink.probes[0].preferred_tokens)
