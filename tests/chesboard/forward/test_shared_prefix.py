import dataclasses

import pytest
import torch

from chesboard import cpu
from chesboard.configs import LoraConfig
from chesboard.forward.select import select_forward
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import causal_model
from tests.chesboard import naive
from tests.tiny_models import END, load, make_pair, random_pairs
from worker.training.weights import adapter_dropout, add_adapters

PAIRS = random_pairs(9)


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoPassForward])
@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2"])
def test_states_equal_a_forward_pass_of_each_response_alone(kind, path):
    loaded = load(kind)
    with torch.no_grad():
        states = path(loaded)(PAIRS, forks=True)
    sides = (
        (states.index.preferred_rows_N, states.index.preferred_pair_N, "preferred_ids",
         states.preferred_token_logprobs_N()),
        (states.index.dispreferred_rows_N, states.index.dispreferred_pair_N, "dispreferred_ids",
         states.dispreferred_token_logprobs_N()),
    )  # fmt: skip
    for b, pair in enumerate(PAIRS):
        for rows_N, pair_N, side, logprobs_N in sides:
            seen = naive.read(loaded, pair.prompt_ids, getattr(pair, side))
            mine = pair_N == b
            torch.testing.assert_close(
                states.hidden_UD[rows_N[mine]].double(),
                torch.stack(seen.hidden),
                rtol=1e-4,
                atol=1e-4,
            )
            assert logprobs_N[mine].tolist() == pytest.approx(seen.logprobs, rel=1e-4, abs=1e-4)
            torch.testing.assert_close(
                torch.softmax(states.fork_logits_BV[b].double(), -1),
                seen.distributions[pair.fork_position],
                rtol=1e-3,
                atol=1e-6,
            )


def pairs_with_a_common_prefix(count=6):
    """Prompts that begin alike; one of them is the beginning and one more token."""
    beginning = [7, 9, 7, 11, 13]
    pairs = [
        dataclasses.replace(pair, prompt_ids=[*beginning, *pair.prompt_ids])
        for pair in random_pairs(count, seed=2)
    ]
    pairs[1] = dataclasses.replace(pairs[1], prompt_ids=[*beginning, 20])
    return pairs


@pytest.mark.parametrize("alike", [False, True], ids=["beginning alike", "one prompt for all"])
@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2"])
def test_a_common_prefix_is_prefilled_once_and_changes_nothing(kind, alike):
    loaded, pairs = load(kind), pairs_with_a_common_prefix()
    if alike:
        pairs = [dataclasses.replace(pair, prompt_ids=pairs[0].prompt_ids) for pair in pairs]
    lengths = []
    hook = loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: lengths.append(tuple(inputs[0].shape))
    )
    with torch.no_grad():
        states = SharedPrefixForward(loaded, min_saved_tokens=1)(pairs, forks=True)
        hook.remove()
        alone = TwoPassForward(loaded)(pairs, forks=True)
    common = len(pairs[0].prompt_ids) - 1 if alike else 5
    longest = max(SharedPrefixForward(loaded).row_tokens(pair) for pair in pairs)
    assert lengths == [(1, common), (len(pairs), longest - common)]
    for name in ("preferred_token_logprobs_N", "dispreferred_token_logprobs_N"):
        torch.testing.assert_close(
            getattr(states, name)(), getattr(alone, name)(), rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(states.fork_logits_BV, alone.fork_logits_BV, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2"])
def test_long_prompts_are_computed_without_a_mask_up_to_the_shortest(kind):
    loaded, lengths = load(kind), []
    pairs = [make_pair(n, range(n, 60 + 2 * n), [5, 6, 7 + n, END], [5, 8, END]) for n in range(4)]
    hook = loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: lengths.append(tuple(inputs[0].shape))
    )
    with torch.no_grad():
        states = SharedPrefixForward(loaded, min_prefill_tokens=50)(pairs, forks=True)
        hook.remove()
        alone = TwoPassForward(loaded)(pairs, forks=True)
    assert lengths[0] == (4, 59)
    for name in ("preferred_token_logprobs_N", "dispreferred_token_logprobs_N"):
        torch.testing.assert_close(
            getattr(states, name)(), getattr(alone, name)(), rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(states.fork_logits_BV, alone.fork_logits_BV, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ahead", [{"min_saved_tokens": 1}, {"min_prefill_tokens": 1}], ids=str)
def test_gradients_flow_into_a_prefilled_beginning(llama, ahead):
    pairs, gradients = pairs_with_a_common_prefix(), []
    for path in (SharedPrefixForward(llama, **ahead), TwoPassForward(llama)):
        llama.model.zero_grad()
        states = path(pairs)
        (states.preferred_logprobs_B() - 2 * states.dispreferred_logprobs_B()).sum().backward()
        gradients.append([p.grad.clone() for p in llama.model.parameters()])
    for shared, plain in zip(*gradients, strict=True):
        assert (shared - plain).norm() / plain.norm() < 1e-4


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_under_dropout_rows_share_no_prefix(llama, rate):
    llama.model = add_adapters(llama.model, LoraConfig(dropout=rate))
    forward, widths = SharedPrefixForward(llama, min_saved_tokens=1), []
    causal_model(llama).get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: widths.append(tuple(inputs[0].shape))
    )
    with adapter_dropout(llama.model):
        forward(pairs_with_a_common_prefix())
    assert ((1, 5) in widths) is (rate == 0.0)
    widths.clear()
    with torch.no_grad():  # nothing drops out where nothing is learned
        forward(pairs_with_a_common_prefix())
    assert (1, 5) in widths


def test_for_a_model_that_ignores_the_cache_nothing_is_prefilled(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def forget(past_key_values=None, **arguments):
        return plain(past_key_values=None, **arguments)

    decoder.forward = forget
    pairs = pairs_with_a_common_prefix()
    forward, reason = select_forward(llama, pairs)
    assert isinstance(forward, SharedPrefixForward)
    assert reason is None
    with torch.no_grad():
        states, expected = forward(pairs * 40), TwoPassForward(llama)(pairs * 40)
    torch.testing.assert_close(
        states.preferred_logprobs_B(), expected.preferred_logprobs_B(), rtol=1e-4, atol=1e-3
    )


def narrow(kind):
    """The model as a worker scores with it in bfloat16 on a CPU."""
    loaded = load(kind)
    loaded.model.bfloat16()
    cpu.install(loaded.model, compute_dtype=torch.bfloat16)
    loaded.compute_dtype = torch.bfloat16
    return loaded


def one_word_pairs():
    """Prompts of 20 to 40 tokens with one beginning, responses of a word and its end."""
    return [
        make_pair(n, [3, 4, 5, *range(20 + n, 40 + 3 * n)], [50 + n, END], [90 + n, END])
        for n in range(8)
    ]


@pytest.mark.parametrize("kind", ["llama", "untied llama"])
def test_short_tails_are_computed_in_float32_after_prompts_in_bfloat16(kind):
    exact, pairs = load(kind), one_word_pairs()
    with torch.no_grad():
        for parameter in exact.model.parameters():
            parameter.copy_(parameter.bfloat16())  # what is left is the rounding of states
        expected = SharedPrefixForward(exact)(pairs)
        with_ends = SharedPrefixForward(narrow(kind))(pairs)
        without = SharedPrefixForward(narrow(kind), float32_tail_share=0)(pairs)

    def response_difference(states):
        return states.preferred_logprobs_B() - states.dispreferred_logprobs_B()

    def error(states):
        return (response_difference(states) - response_difference(expected)).norm()

    assert with_ends.hidden_UD.dtype == torch.float32
    torch.testing.assert_close(with_ends.hidden_UD, expected.hidden_UD, rtol=0, atol=0.1)
    assert error(with_ends) < 0.75 * error(without)


def test_tails_that_are_not_short_are_computed_like_all_else():
    long_ends = [
        make_pair(n, [3, 4, 5, 6], [*range(20, 40 + n), END], [*range(50, 60), END])
        for n in range(4)
    ]
    narrowed = narrow("llama")
    widths = []
    narrowed.model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: widths.append(tuple(inputs[0].shape))
    )
    with torch.no_grad():
        SharedPrefixForward(narrowed)(long_ends)
        assert len(widths) == 1
        widths.clear()
        SharedPrefixForward(narrowed)(one_word_pairs())
    assert widths[0] == (1, 3)  # the beginning
    assert widths[-1] == (8, 3)  # the last token of each prompt and the two words


def test_eager_attention_takes_the_mask_too():
    loaded = load("llama")
    with torch.no_grad():
        expected = SharedPrefixForward(loaded)(PAIRS).logprobs_U2
        loaded.model.set_attn_implementation("eager")
        actual = SharedPrefixForward(loaded)(PAIRS).logprobs_U2
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_both_paths_are_the_same(llama):
    gradients = []
    for path in (SharedPrefixForward, TwoPassForward):
        llama.model.zero_grad()
        states = path(llama)(PAIRS)
        (states.preferred_logprobs_B() - 2 * states.dispreferred_logprobs_B()).sum().backward()
        gradients.append([p.grad.clone() for p in llama.model.parameters()])
    for shared, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(shared, plain, rtol=1e-3, atol=1e-3)


def test_a_row_holds_the_prompt_and_the_common_response_tokens_once(llama):
    pair = make_pair(0, [1] * 10, [2, 3, 4, END], [2, 3, 5, 6, END])
    # 10 of the prompt, 2 shared, y+ from the fork without its end: 1, y- likewise: 2
    assert SharedPrefixForward(llama).row_tokens(pair) == 15


def test_capped_logits_are_scored_right_by_two_passes():
    loaded = load("gemma2")
    with torch.no_grad():
        states = TwoPassForward(loaded)(PAIRS)
    expected = [sum(naive.read(loaded, p.prompt_ids, p.preferred_ids).logprobs) for p in PAIRS]
    assert states.preferred_logprobs_B().tolist() == pytest.approx(expected, rel=1e-4)
