from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch

from chesboard.configs import GenerateConfig
from chesboard.generation.run import generate_answers, requests_of
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import GenerationRecord
from tests.tiny_models import END, GoOn, KeepingReporter, load, make_pair, random_pairs

PAIRS = random_pairs(8, seed=5)


@dataclass
class Told(KeepingReporter):
    """Keeps what the call returned, too."""

    how: dict[str, Any] = field(default_factory=dict)


CONFIG = GenerateConfig(samples=2, answer_tokens=10, seed=4)


def generated(
    loaded: LoadedModel,
    pairs: list[TokenizedPair] = PAIRS,
    config: GenerateConfig = CONFIG,
    already: Collection[tuple[int, int]] = (),
) -> Told:
    reporter = Told()
    requests = requests_of(pairs, config.samples)
    reporter.how = generate_answers(loaded, requests, config, reporter, GoOn(), already)
    return reporter


def by_key(reporter: Told) -> dict[tuple[int, int], GenerationRecord]:
    return {(one.pair, one.sample): one for one in reporter.generations}


def test_every_prompt_gets_its_answers(llama: LoadedModel) -> None:
    reporter = generated(llama)
    records = by_key(reporter)
    assert sorted(records) == [(pair, sample) for pair in range(8) for sample in range(2)]
    assert len(reporter.generations) == len(records)
    assert reporter.how["new_tokens"] == sum(one.tokens for one in records.values())
    assert reporter.how["seconds"] > 0
    assert reporter.progresses[0] == (0, 16, "answers")
    assert reporter.progresses[-1] == (16, 16, "answers")
    assert reporter.phases == ["generating"]


def test_an_end_token_counts_in_length_and_log_probability(llama: LoadedModel) -> None:
    llama.model.generation_config.eos_token_id = list(range(300))  # whatever comes is an end
    [record] = generated(llama, PAIRS[:1], CONFIG.model_copy(update={"samples": 1})).generations
    with torch.no_grad():
        logits_V = llama.model(torch.tensor([PAIRS[0].prompt_ids])).logits[0, -1]
    assert (record.text, record.tokens, record.ended) == ("", 1, True)
    logprobs_V = torch.log_softmax(logits_V, -1)
    assert torch.isclose(logprobs_V, torch.tensor(record.logprob), atol=1e-4).any()


def test_a_prompt_of_several_pairs_is_answered_once_under_the_first(llama: LoadedModel) -> None:
    pairs = [
        make_pair(number, prompt, [number, END], [END])
        for number, prompt in [(3, [1, 2]), (5, [4]), (8, [1, 2]), (9, [1, 2])]
    ]
    reporter = generated(llama, pairs)
    assert sorted(by_key(reporter)) == [(3, 0), (3, 1), (5, 0), (5, 1)]


def test_fewer_samples_pairs_or_tokens_are_a_part_of_the_same_answers(llama: LoadedModel) -> None:
    whole = by_key(generated(llama))
    part = generated(llama, PAIRS[3:5], CONFIG.model_copy(update={"samples": 1}))
    for key, one in by_key(part).items():
        assert (one.text, one.tokens) == (whole[key].text, whole[key].tokens)
    shorter = by_key(generated(llama, config=CONFIG.model_copy(update={"answer_tokens": 4})))
    assert all(whole[key].text.startswith(shorter[key].text.rstrip("\ufffd")) for key in whole)


def test_another_seed_gives_other_answers(llama: LoadedModel) -> None:
    other = by_key(generated(llama, config=CONFIG.model_copy(update={"seed": 5})))
    assert other != by_key(generated(llama))


def test_answers_of_an_earlier_attempt_are_not_stored_again(llama: LoadedModel) -> None:
    config = CONFIG.model_copy(update={"batch_tokens": 80})
    whole = generated(llama, config=config)
    done = whole.generations[:7]
    already = {(one.pair, one.sample) for one in done}
    resumed = generated(llama, config=config, already=already)
    assert by_key(resumed) == {key: one for key, one in by_key(whole).items() if key not in already}
    assert resumed.progresses[0] == (7, 16, "answers")
    tokens = sum(one.tokens for one in resumed.generations)
    assert resumed.how["new_tokens"] == tokens < whole.how["new_tokens"]


def test_prompts_without_room_for_an_answer_get_none_and_are_told() -> None:
    loaded = load("gpt2")  # 512 positions
    reporter = generated(loaded, config=CONFIG.model_copy(update={"answer_tokens": 600}))
    assert reporter.generations == []
    assert "leave no room for an answer of 600 tokens" in reporter.messages[0]
