import math
from dataclasses import replace

import pytest
import torch

from chesboard.configs import LedgerPositions, TrainConfig
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.probing import observer as observer_module
from chesboard.probing import probes as probes_module
from chesboard.probing.generation import greedy_answers
from chesboard.probing.observer import ProbeObserver
from chesboard.probing.probes import ledger_positions
from chesboard.tokenization import token_text
from tests.chesboard import naive
from tests.tiny_models import END, VOCABULARY, GoOn, KeepingReporter, load, make_pair, random_pairs

PAIRS = random_pairs(6)  # pair 4 is identical
GROUPS = {"affirmative": ["Yes", "zebra"], "negative": ["No"]}


def watch(loaded, pairs=PAIRS, **settings):
    reporter = KeepingReporter()
    config = TrainConfig(token_groups=GROUPS, ledger_top=4, **settings)
    probes = ProbeObserver(loaded, SharedPrefixForward(loaded), pairs, config, reporter, GoOn())
    probes.begin()
    return probes, reporter


def shake(loaded):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)


@pytest.fixture
def moved(llama):
    """Probes before and after the weights changed."""
    probes, reporter = watch(llama)
    before = [naive.read(llama, p.prompt_ids, p.preferred_ids) for p in PAIRS]
    shake(llama)
    probes.observe(7)
    return llama, probes, reporter, before


def test_step_equals_the_naive_view_of_both_responses(moved):
    loaded, _, reporter, before = moved
    for pair, first, record in zip(PAIRS, before, reporter.probe_steps[len(PAIRS) :], strict=True):
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
    _, _, reporter, _ = moved
    for record in reporter.probe_steps:
        listed = sum(entry.change for entry in [*record.ledger.gainers, *record.ledger.losers])
        assert listed + record.ledger.rest_change == pytest.approx(0, abs=1e-6)


def test_step_zero_has_moved_nothing(moved):
    _, _, reporter, _ = moved
    for record in reporter.probe_steps[: len(PAIRS)]:
        assert (
            record.step,
            record.ledger.gainers,
            record.ledger.losers,
            record.ledger.moved_mass,
        ) == (0, [], [], 0)


def test_probabilities_at_the_fork_add_up_to_one(moved):
    _, _, reporter, _ = moved
    for record in reporter.probe_steps:
        both = record.preferred_prob + (0 if record.pair == 4 else record.dispreferred_prob)
        assert both + record.other_prob == pytest.approx(1, abs=1e-9)


def test_watched_tokens_hold_both_forks_and_the_groups(moved):
    loaded, _, reporter, _ = moved
    for pair, probe in zip(PAIRS, reporter.probes, strict=True):
        ids = [token["token_id"] for token in probe.watched]
        fork = pair.fork_position
        assert {pair.preferred_ids[fork], pair.dispreferred_ids[fork]} <= set(ids)
        texts = [token["token"] for token in probe.watched]
        assert {"Yes", " Yes", "No", " No"} <= set(texts)
        assert len(set(ids)) == len(ids) <= 110
        last = reporter.probe_steps[-len(PAIRS) + pair.pair]
        assert len(last.ledger.watched_probs) == len(ids)
        assert last.ledger.watched_probs[0] == last.preferred_prob
        assert loaded.tokenizer.decode(pair.prompt_ids).replace("\0", "<00>") == probe.prompt


def test_groups_sum_their_tokens_and_leave_out_longer_words(moved):
    _, _, reporter, _ = moved
    probe, record = reporter.probes[0], reporter.probe_steps[-len(PAIRS)]
    assert probe.groups == [
        {"name": "affirmative", "tokens": ["Yes", " Yes"]},
        {"name": "negative", "tokens": ["No", " No"]},
    ]
    by_text = dict(
        zip([token["token"] for token in probe.watched], record.ledger.watched_probs, strict=True)
    )
    assert record.group_probs[0] == pytest.approx(by_text["Yes"] + by_text[" Yes"])
    said = [message for message in reporter.messages if "zebra" in message]
    assert len(said) == 1
    assert "more than one token" in said[0]


def test_identical_responses_fork_at_their_last_token_and_predict_nothing(moved):
    _, _, reporter, _ = moved
    probe = reporter.probes[4]
    assert probe.fork_position == len(probe.preferred_tokens) - 1
    assert all(token["predicted"] == 0 for token in probe.watched)


def test_gainers_carry_the_prediction_of_step_zero(moved):
    _, probes, reporter, _ = moved
    predicted_V = probes.state(8).tensors["0.fork.predicted"]
    for entry in reporter.probe_steps[-len(PAIRS)].ledger.gainers:
        assert entry.predicted == predicted_V[entry.token_id].item()


def test_summary_holds_changes_and_where_the_mass_went(moved):
    _, probes, reporter, before = moved
    summary, last = probes.summarize()[0], reporter.probe_steps[-len(PAIRS)]
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
    reporter = KeepingReporter()
    config = TrainConfig(token_groups=GROUPS, ledger_top=4)
    again = ProbeObserver(llama, SharedPrefixForward(llama), PAIRS, config, reporter, GoOn())
    again.resume(probes.state(3))
    again.observe(3)
    assert again.summarize() == probes.summarize()
    assert reporter.probes == []
    assert reporter.messages == []


def test_no_probes_record_nothing(llama):
    probes, reporter = watch(llama, pairs=[])
    probes.observe(1)
    assert (reporter.probes, reporter.probe_steps, probes.summarize()) == ([], [], [])


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


def test_texts_of_null_bytes_can_be_stored():
    loaded = load()
    null = loaded.tokenizer.convert_tokens_to_ids("Ā")
    pair = replace(make_pair(0, [null], [null, END], [1, END]))
    _, reporter = watch(loaded, pairs=[pair])
    assert "\x00" not in reporter.probes[0].prompt
    assert "\x00" not in "".join(reporter.probes[0].preferred_tokens)


# --- since the previous record ------------------------------------------------------------------


def test_recent_ledger_compares_with_the_previous_record(llama):
    probes, reporter = watch(llama)
    seen = []
    for step in (2, 5):
        shake(llama)
        seen.append([naive.read(llama, p.prompt_ids, p.preferred_ids) for p in PAIRS])
        probes.observe(step)
    count = len(PAIRS)
    for i, pair in enumerate(PAIRS):
        first, second = (
            reporter.probe_steps[count + i].ledger,
            reporter.probe_steps[2 * count + i].ledger,
        )
        assert (first.recent.since_step, second.recent.since_step) == (0, 2)
        assert first.recent.gainers == first.gainers
        fork = pair.fork_position
        before, now = seen[0][i].distributions[fork], seen[1][i].distributions[fork]
        recent = second.recent
        assert recent.moved_mass == pytest.approx((now - before).abs().sum().item() / 2, abs=1e-5)
        best = (now - before).topk(4).indices.tolist()
        assert [entry.token_id for entry in recent.gainers] == best
        for entry in [*recent.gainers, *recent.losers]:
            assert entry.initial == pytest.approx(before[entry.token_id].item(), abs=1e-5)
            assert entry.final == pytest.approx(now[entry.token_id].item(), abs=1e-5)
        listed = sum(entry.change for entry in [*recent.gainers, *recent.losers])
        assert listed + recent.rest_change == pytest.approx(0, abs=1e-6)


def test_every_step_keeps_the_argmax_of_the_fork_and_its_logprob(moved):
    loaded, _, reporter, before = moved
    for index, record in enumerate(reporter.probe_steps):
        pair = PAIRS[record.pair]
        first = before[record.pair]
        now = (
            first if index < len(PAIRS) else naive.read(loaded, pair.prompt_ids, pair.preferred_ids)
        )
        likeliest = now.distributions[pair.fork_position].max().item()
        assert math.exp(record.ledger.argmax_logprob) == pytest.approx(likeliest, abs=1e-5)
        argmax = now.distributions[pair.fork_position].argmax().item()
        assert record.ledger.argmax_token == token_text(loaded.tokenizer, argmax)


def naive_divergence(now, initial):
    return (now * (now.log() - initial.log())).sum().item()


def test_every_recorded_position_keeps_its_divergence_from_step_0(llama):
    asked = LedgerPositions(preferred="all", dispreferred="all")
    probes, reporter = watch(llama, ledger_positions=asked)

    def read(response):
        ids = f"{response}_ids"
        return [naive.read(llama, p.prompt_ids, getattr(p, ids)).distributions for p in PAIRS]

    before = {response: read(response) for response in ("preferred", "dispreferred")}
    shake(llama)
    probes.observe(7)
    after = {response: read(response) for response in ("preferred", "dispreferred")}
    places = [("preferred", PAIRS[one.pair].fork_position, one) for one in reporter.probe_steps]
    places += [(one.response, one.position, one) for one in reporter.position_steps]
    assert {step.ledger.kl for _, _, step in places if step.step == 0} == {0.0}
    later = [place for place in places if place[2].step == 7]
    assert len(later) > 3 * len(PAIRS)
    for response, k, step in later:
        expected = naive_divergence(after[response][step.pair][k], before[response][step.pair][k])
        assert step.ledger.kl == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert step.ledger.kl > 1e-6


def test_other_positions_keep_it_too_and_say_what_their_prediction_follows_from(llama):
    asked = LedgerPositions(preferred="all", dispreferred="all")
    _, reporter = watch(llama, ledger_positions=asked)
    assert all(step.ledger.argmax_token is not None for step in reporter.position_steps)
    kinds = {
        (one.response, one.position > PAIRS[one.pair].fork_position, one.prediction_kind)
        for one in reporter.positions
    }
    assert kinds <= {
        ("preferred", False, None),  # before the fork the margin has no gradient
        ("preferred", True, "geometry"),
        ("dispreferred", True, "squeezing"),
    }
    assert ("dispreferred", True, "squeezing") in kinds


def test_predicted_gainers_carry_their_actual_change_and_rank(moved):
    loaded, _, reporter, before = moved
    for probe, first, record in zip(
        reporter.probes, before, reporter.probe_steps[len(PAIRS) :], strict=True
    ):
        pair, ledger = PAIRS[probe.pair], record.ledger
        now = naive.read(loaded, pair.prompt_ids, pair.preferred_ids)
        change = now.distributions[pair.fork_position] - first.distributions[pair.fork_position]
        ids = [token["token_id"] for token in probe.predicted]
        assert len(ids) == (0 if probe.pair == 4 else 10)
        assert [token["predicted"] for token in probe.predicted] == sorted(
            (token["predicted"] for token in probe.predicted), reverse=True
        )
        assert ledger.predicted_changes == pytest.approx(change[ids].tolist(), abs=1e-5)
        order = change.argsort(descending=True).tolist()
        assert ledger.predicted_ranks == [order.index(token_id) + 1 for token_id in ids]
        if probe.pair == 4:
            assert ledger.rank_agreement is None
        else:
            assert -1 <= ledger.rank_agreement <= 1


def test_a_small_step_along_the_margin_does_what_theory_predicts(llama):
    """Hidden states alone move (as in the theory): the unembedding is held where it is."""
    llama = load("untied llama")
    pair = PAIRS[0]
    reporter = KeepingReporter()
    probes = ProbeObserver(
        llama, SharedPrefixForward(llama), [pair], TrainConfig(), reporter, GoOn()
    )
    probes.begin()
    states = SharedPrefixForward(llama)([pair])
    margin = states.preferred_logprobs_B().sum() - states.dispreferred_logprobs_B().sum()
    margin.backward()
    with torch.no_grad():
        norm = llama.model.model.norm
        norm.weight.add_(norm.weight.grad, alpha=1e-4)
    probes.observe(1)
    agreement = reporter.probe_steps[-1].ledger.rank_agreement
    assert agreement is not None
    assert agreement > 0.3


# --- when displacement began --------------------------------------------------------------------


def test_onset_is_the_step_since_which_the_pair_stays_displaced(llama, monkeypatch):
    probes, reporter = watch(llama, pairs=PAIRS[:1])
    start = probes._snapshots()[0]
    changes = {1: (-1, -2), 2: (0.5, -2), 3: (-0.1, -2), 4: (-0.2, -3), 5: (-0.2, -0.1)}
    for step, (preferred, dispreferred) in changes.items():
        look = replace(
            start,
            preferred_logprobs=[sum(start.preferred_logprobs) + preferred],
            dispreferred_logprobs=[sum(start.dispreferred_logprobs) + dispreferred],
        )
        monkeypatch.setattr(probes, "_snapshots", lambda look=look: {0: look})
        probes.observe(step)
    assert [record.onset_step for record in reporter.probe_steps] == [None, 1, None, 3, 3, None]
    assert reporter.probe_steps[1].preferred_change == pytest.approx(-1, abs=1e-6)


# --- other positions ----------------------------------------------------------------------------

POSITIONS = {"preferred": "all", "dispreferred": [0, 2, 5, 99]}


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_ledgers_at_any_position_are_the_naive_ones(kind):
    loaded = load(kind)
    pairs = [pair for pair in PAIRS if pair.pair != 4]
    before = {p.pair: both_sides(loaded, p) for p in pairs}
    reporter = KeepingReporter()
    config = TrainConfig(ledger_positions=POSITIONS, ledger_top=3)
    probes = ProbeObserver(loaded, TwoPassForward(loaded), pairs, config, reporter, GoOn())
    probes.begin()
    shake(loaded)
    probes.observe(4)
    after = {p.pair: both_sides(loaded, p) for p in pairs}
    later = [record for record in reporter.position_steps if record.step == 4]
    assert {(r.pair, r.response, r.position) for r in later} == {
        (p.pair, p.response, p.position) for p in reporter.positions
    }
    for record in later:
        initial = before[record.pair][record.response].distributions[record.position]
        now = after[record.pair][record.response].distributions[record.position]
        ledger = record.ledger
        moved = (now - initial).abs().sum().item() / 2
        assert ledger.moved_mass == pytest.approx(moved, abs=1e-5)
        best = (now - initial).topk(3).indices.tolist()
        assert [entry.token_id for entry in ledger.gainers] == best
        listed = sum(entry.change for entry in [*ledger.gainers, *ledger.losers])
        assert listed + ledger.rest_change == pytest.approx(0, abs=1e-6)


def both_sides(loaded, pair):
    return {
        "preferred": naive.read(loaded, pair.prompt_ids, pair.preferred_ids),
        "dispreferred": naive.read(loaded, pair.prompt_ids, pair.dispreferred_ids),
    }


def test_positions_up_to_the_fork_are_kept_once():
    pair = make_pair(0, [1, 2], [7, 8, 9, 10, END], [7, 8, 30, END])
    asked = ledger_positions(pair, LedgerPositions(preferred=[0, 4], dispreferred=[1, 3, 50]))
    assert asked == {"preferred": [0, 2, 4], "dispreferred": [1, 2, 3]}
    _, reporter = watch(
        load(), [pair], ledger_positions={"preferred": [0, 4], "dispreferred": [1, 3, 50]}
    )
    assert [(p.response, p.position) for p in reporter.positions] == [
        ("preferred", 0),
        ("preferred", 1),
        ("preferred", 4),
        ("dispreferred", 3),
    ]
    assert reporter.probes[0].positions == asked


def test_theory_predicts_that_a_small_step_raises_y_plus_and_lowers_y_minus_behind_the_fork():
    """And nothing before the fork, where both responses pull alike."""
    pair = make_pair(0, [1, 2], [7, 8, 9, END], [7, 30, 31, END])
    _, reporter = watch(
        load(), [pair], ledger_positions={"preferred": "all", "dispreferred": "all"}
    )
    at = {(p.response, p.position): p for p in reporter.positions}
    assert all(token["predicted"] is None for token in at["preferred", 0].watched)
    assert at["preferred", 0].predicted == []
    wanted = {token["token_id"]: token["predicted"] for token in at["preferred", 2].watched}
    unwanted = {token["token_id"]: token["predicted"] for token in at["dispreferred", 2].watched}
    assert wanted[9] > 0
    assert unwanted[31] < 0


def test_positions_beyond_memory_are_left_out_and_reported(monkeypatch):
    monkeypatch.setattr(probes_module, "POSITION_BYTES", 5 * 16 * VOCABULARY)
    pair = make_pair(0, [1, 2], [7, 8, 9, 10, END], [30, 31, 32, END])
    _, reporter = watch(
        load(), [pair], ledger_positions={"preferred": "all", "dispreferred": "all"}
    )
    assert [(p.response, p.position) for p in reporter.positions] == [
        ("preferred", 1),
        ("preferred", 2),
        ("dispreferred", 1),
        ("dispreferred", 2),
    ]
    assert reporter.probes[0].positions == {"preferred": [0, 1, 2], "dispreferred": [0, 1, 2]}
    assert "7 positions asked for would not fit" in reporter.messages[0]


# --- free prompts -------------------------------------------------------------------------------

PROMPTS = [
    {"prompt": "Is it the end?", "watch": ["Yes", "No", "zebra"], "name": "the end"},
    {"prompt": [{"role": "user", "content": "Go on"}], "watch": []},
]


@pytest.fixture
def prompted(llama):
    probes, reporter = watch(llama, pairs=PAIRS[:1], probes={"prompts": PROMPTS})
    ids = llama.tokenizer("Is it the end?")["input_ids"]
    before = naive.read(llama, ids, [0]).distributions[0]
    shake(llama)
    probes.observe(6)
    after = naive.read(llama, ids, [0]).distributions[0]
    return probes, reporter, before, after


def test_a_prompt_is_watched_at_the_token_that_follows_it(prompted):
    _, reporter, before, after = prompted
    _, prompt, other = reporter.probes
    assert [(p.pair, p.kind) for p in reporter.probes] == [
        (0, "pair"),
        (-1, "prompt"),
        (-2, "prompt"),
    ]
    assert (prompt.name, prompt.prompt, prompt.fork_position) == ("the end", "Is it the end?", 0)
    assert (prompt.preferred_tokens, prompt.dispreferred_tokens) == ([], [])
    assert (prompt.predicted, other.prompt, other.name) == ([], "Go on", None)
    record = reporter.probe_steps[-2]
    assert (record.pair, record.step) == (-1, 6)
    assert (record.preferred_prob, record.other_prob, record.preferred_change) == (None,) * 3
    moved = (after - before).abs().sum().item() / 2
    assert record.ledger.moved_mass == pytest.approx(moved, abs=1e-5)
    assert record.ledger.gainers[0].token_id == (after - before).argmax().item()
    assert record.ledger.rank_agreement is None


def test_watched_words_are_groups_of_the_prompt_and_come_before_token_groups(prompted):
    probes, reporter, _, after = prompted
    prompt, record = reporter.probes[1], reporter.probe_steps[-2]
    assert [group["name"] for group in prompt.groups] == ["Yes", "No", "affirmative", "negative"]
    assert prompt.groups[0]["tokens"] == ["Yes", " Yes"]
    yes = [t["token_id"] for t in prompt.watched if t["token"] in ("Yes", " Yes")]
    assert record.group_probs[0] == pytest.approx(after[yes].sum().item(), abs=1e-6)
    [summary, _] = probes.summarize_prompts()
    assert summary["groups"][0]["final"] == record.group_probs[0]
    assert [probe["pair"] for probe in probes.summarize()] == [0]


def test_a_word_of_several_tokens_is_not_watched_and_reported(prompted):
    _, reporter, _, _ = prompted
    assert (
        "“zebra” is more than one token for this model and is not watched after the prompt "
        "“the end”."
    ) in reporter.messages


# --- answers ------------------------------------------------------------------------------------


def test_every_probe_gets_an_answer_and_probes_of_one_prompt_share_it(llama, monkeypatch):
    asked = []

    def greedy(loaded, prompts, *others, **named):
        asked.append(len(prompts))
        return greedy_answers(loaded, prompts, *others, **named)

    monkeypatch.setattr(observer_module, "greedy_answers", greedy)
    twin = replace(PAIRS[1], prompt_ids=PAIRS[0].prompt_ids)
    probes, reporter = watch(
        llama, [PAIRS[0], twin], probes={"prompts": PROMPTS}, answer_every=3, answer_tokens=4
    )
    probes.answer_if_due(2, last=False)
    probes.answer_if_due(3, last=False)
    probes.answer_if_due(4, last=True)
    assert [(a.pair, a.step) for a in reporter.answers] == [
        (pair, step) for step in (0, 3, 4) for pair in (0, 1, -1, -2)
    ]
    assert asked == [3, 3, 3]
    assert reporter.answers[0].text == reporter.answers[1].text


def test_without_being_asked_the_model_answers_nothing(llama):
    probes, reporter = watch(llama)
    probes.answer_if_due(10, last=True)
    assert reporter.answers == []
