import pytest
import torch
from peft import LoraConfig, get_peft_model

from chesboard.probing.generation import Answer, greedy_answers
from chesboard.reporting import RunInterruptedError
from tests.tiny_models import END, GoOn, StopAfter, load, random_pairs

PROMPTS = [pair.prompt_ids for pair in random_pairs(7, seed=3)]


def naive_answer(loaded, prompt_ids, most_tokens):
    """No cache, no padding: the whole text again for each token."""
    ids, ends = list(prompt_ids), {loaded.tokenizer.eos_token_id}
    answer = []
    with torch.no_grad():
        for _ in range(most_tokens):
            token_id = loaded.model(torch.tensor([ids])).logits[0, -1].argmax().item()
            if token_id in ends:
                return Answer(loaded.tokenizer.decode(answer).replace("\0", "<00>"), True)
            ids.append(token_id)
            answer.append(token_id)
    return Answer(loaded.tokenizer.decode(answer).replace("\0", "<00>"), False)


def answer(loaded, prompts=PROMPTS, most_tokens=12, control=None, tell=None):
    return greedy_answers(loaded, prompts, most_tokens, control or GoOn(), tell or pytest.fail)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_answers_are_the_likeliest_token_again_and_again(kind):
    loaded = load(kind)
    assert answer(loaded) == [naive_answer(loaded, ids, 12) for ids in PROMPTS]


def test_an_answer_that_the_model_ends_is_marked_so(llama):
    """Whatever it would say first is made the end of a text."""
    with torch.no_grad():
        first = llama.model(torch.tensor([PROMPTS[0]])).logits[0, -1].argmax().item()
    llama.model.generation_config.eos_token_id = [END, first]
    assert answer(llama, [PROMPTS[0]]) == [Answer("", True)]


def test_the_models_own_sampling_settings_play_no_part(llama):
    plain = answer(llama)
    own = llama.model.generation_config
    own.do_sample, own.temperature, own.repetition_penalty = True, 2.0, 5.0
    assert answer(llama) == plain


def test_adapters_answer_with_the_model(llama):
    plain = answer(llama)
    llama.model = get_peft_model(llama.model, LoraConfig(r=4, target_modules="all-linear"))
    assert answer(llama) == plain  # adapters begin at zero
    with torch.no_grad():
        for name, parameter in llama.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    llama.model.eval()
    assert answer(llama) != plain
    assert answer(llama) == [naive_answer(llama, ids, 12) for ids in PROMPTS]


def test_random_numbers_go_on_as_if_nothing_had_been_answered(llama):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    answer(llama)
    assert torch.equal(torch.rand(3), expected)


def test_what_does_not_fit_into_memory_gets_no_answer_and_is_told(llama, monkeypatch):
    expected, said = answer(llama), []
    forward = type(llama.model).forward

    def fail(self, input_ids, **others):
        if input_ids.shape[1] == max(map(len, PROMPTS)):
            raise torch.OutOfMemoryError("too much")
        return forward(self, input_ids=input_ids, **others)

    monkeypatch.setattr(type(llama.model), "forward", fail)
    found = answer(llama, tell=said.append)
    longest = max(map(len, PROMPTS))
    assert found == [
        None if len(ids) == longest else one for ids, one in zip(PROMPTS, expected, strict=True)
    ]
    assert "Some of the probes' prompts are too long to be answered in the GPU's memory." in said


def test_a_run_can_be_stopped_between_two_tokens(llama):
    with pytest.raises(RunInterruptedError):
        answer(llama, control=StopAfter(4))


def test_a_prompt_that_leaves_no_room_gets_no_answer_and_is_told():
    said = []
    loaded = load("gpt2")  # has 512 learned positions
    found = answer(loaded, [[1] * 505, [1, 2]], tell=said.append)
    assert found[0] is None
    assert found[1] == naive_answer(loaded, [1, 2], 12)
    assert "Some of the probes' prompts leave no room" in said[0]
