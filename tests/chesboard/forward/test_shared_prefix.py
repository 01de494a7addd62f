import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chesboard.configs import LoraConfig
from chesboard.cpu.onednn import take_over
from chesboard.forward.batching import TokenBudget, in_batches, token_batches
from chesboard.forward.select import choose_forward, refuse_too_long
from chesboard.forward.shared_prefix import SharedPrefixForward, TwoForwards, causal_model
from tests.chesboard import naive
from tests.tiny_models import BUILDERS, END, GoOn, load, make_pair, random_pairs
from worker.models.loading import widen_stream
from worker.training.weights import adapter_dropout, add_adapters

PAIRS = random_pairs(9)


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoForwards])
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


def pairs_with_one_beginning(count=6):
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
def test_a_common_beginning_is_computed_once_and_changes_nothing(kind, alike):
    loaded, pairs = load(kind), pairs_with_one_beginning()
    if alike:
        pairs = [dataclasses.replace(pair, prompt_ids=pairs[0].prompt_ids) for pair in pairs]
    lengths = []
    hook = loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: lengths.append(tuple(inputs[0].shape))
    )
    with torch.no_grad():
        states = SharedPrefixForward(loaded, smallest_saving=1)(pairs, forks=True)
        hook.remove()
        alone = TwoForwards(loaded)(pairs, forks=True)
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
        states = SharedPrefixForward(loaded, smallest_start=50)(pairs, forks=True)
        hook.remove()
        alone = TwoForwards(loaded)(pairs, forks=True)
    assert lengths[0] == (4, 59)
    for name in ("preferred_token_logprobs_N", "dispreferred_token_logprobs_N"):
        torch.testing.assert_close(
            getattr(states, name)(), getattr(alone, name)(), rtol=1e-4, atol=1e-4
        )
    torch.testing.assert_close(states.fork_logits_BV, alone.fork_logits_BV, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ahead", [{"smallest_saving": 1}, {"smallest_start": 1}], ids=str)
def test_gradients_flow_into_a_start_computed_ahead(llama, ahead):
    pairs, gradients = pairs_with_one_beginning(), []
    for path in (SharedPrefixForward(llama, **ahead), TwoForwards(llama)):
        llama.model.zero_grad()
        states = path(pairs)
        (states.preferred_logprobs_B() - 2 * states.dispreferred_logprobs_B()).sum().backward()
        gradients.append([p.grad.clone() for p in llama.model.parameters()])
    for shared, plain in zip(*gradients, strict=True):
        assert (shared - plain).norm() / plain.norm() < 1e-4


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_rows_that_drop_out_each_for_itself_share_no_beginning(llama, rate):
    llama.model = add_adapters(llama.model, LoraConfig(dropout=rate))
    forward, widths = SharedPrefixForward(llama, smallest_saving=1), []
    causal_model(llama).get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: widths.append(tuple(inputs[0].shape))
    )
    with adapter_dropout(llama.model):
        forward(pairs_with_one_beginning())
    assert ((1, 5) in widths) is (rate == 0.0)
    widths.clear()
    with torch.no_grad():  # nothing drops out where nothing is learned
        forward(pairs_with_one_beginning())
    assert (1, 5) in widths


def test_a_model_that_drops_what_it_is_given_of_the_beginning_computes_it_in_each_row(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def forget(past_key_values=None, **arguments):
        return plain(past_key_values=None, **arguments)

    decoder.forward = forget
    pairs = pairs_with_one_beginning()
    forward, reason = choose_forward(llama, pairs)
    assert isinstance(forward, SharedPrefixForward)
    assert reason is None
    with torch.no_grad():
        states, expected = forward(pairs * 40), TwoForwards(llama)(pairs * 40)
    torch.testing.assert_close(
        states.preferred_logprobs_B(), expected.preferred_logprobs_B(), rtol=1e-4, atol=1e-3
    )


def narrow(kind):
    """The model as a worker scores with it in bfloat16 on a CPU."""
    loaded = load(kind)
    loaded.model.bfloat16()
    take_over(loaded.model)
    widen_stream(loaded.model)
    loaded.compute_dtype = torch.bfloat16
    return loaded


def one_word_pairs():
    """Prompts of 20 to 40 tokens with one beginning, responses of a word and its end."""
    return [
        make_pair(n, [3, 4, 5, *range(20 + n, 40 + 3 * n)], [50 + n, END], [90 + n, END])
        for n in range(8)
    ]


@pytest.mark.parametrize("kind", ["llama", "untied llama"])
def test_short_ends_are_read_in_float32_behind_prompts_in_bfloat16(kind):
    exact, pairs = load(kind), one_word_pairs()
    with torch.no_grad():
        for parameter in exact.model.parameters():
            parameter.copy_(parameter.bfloat16())  # what is left is the rounding of states
        expected = SharedPrefixForward(exact)(pairs)
        with_ends = SharedPrefixForward(narrow(kind))(pairs)
        without = SharedPrefixForward(narrow(kind), short_ends=0)(pairs)

    def response_difference(states):
        return states.preferred_logprobs_B() - states.dispreferred_logprobs_B()

    def error(states):
        return (response_difference(states) - response_difference(expected)).norm()

    assert with_ends.hidden_UD.dtype == torch.float32
    torch.testing.assert_close(with_ends.hidden_UD, expected.hidden_UD, rtol=0, atol=0.1)
    assert error(with_ends) < 0.75 * error(without)


def test_ends_that_are_not_short_are_read_like_all_else():
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
    for path in (SharedPrefixForward, TwoForwards):
        llama.model.zero_grad()
        states = path(llama)(PAIRS)
        (states.preferred_logprobs_B() - 2 * states.dispreferred_logprobs_B()).sum().backward()
        gradients.append([p.grad.clone() for p in llama.model.parameters()])
    for shared, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(shared, plain, rtol=1e-3, atol=1e-3)


def test_shared_row_holds_the_prompt_and_the_common_beginning_once(llama):
    pair = make_pair(0, [1] * 10, [2, 3, 4, END], [2, 3, 5, 6, END])
    # 10 of the prompt, 2 shared, y+ from the fork without its end: 1, y- likewise: 2
    assert SharedPrefixForward(llama).row_tokens(pair) == 15


@pytest.mark.parametrize("kind", BUILDERS)
def test_fast_path_is_chosen_where_it_gives_the_same(kind):
    forward, reason = choose_forward(load(kind), PAIRS)
    refusals = {"gemma2": "caps its logits", "lfm2": "would differ", "mamba": "take the mask"}
    if kind in refusals:
        assert isinstance(forward, TwoForwards)
        assert refusals[kind] in reason
    else:
        assert isinstance(forward, SharedPrefixForward)
        assert reason is None


def test_what_reads_on_into_the_other_response_gets_the_plain_path_in_bfloat16_too():
    """Its states change by less than the two paths differ by rounding."""
    loaded = load("lfm2", torch.bfloat16)
    with torch.no_grad():
        loaded.model.model.layers[0].conv.out_proj.weight.mul_(0.05)
    forward, reason = choose_forward(loaded, PAIRS)
    assert isinstance(forward, TwoForwards)
    assert "read on from one response into the next" in reason


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "cohere", "llama4"])
def test_attention_in_bfloat16_is_not_taken_for_what_reads_on(kind):
    forward, reason = choose_forward(load(kind, torch.bfloat16), PAIRS)
    assert isinstance(forward, SharedPrefixForward)
    assert reason is None


def test_capped_logits_are_scored_right_by_the_plain_path():
    loaded = load("gemma2")
    with torch.no_grad():
        states = TwoForwards(loaded)(PAIRS)
    expected = [sum(naive.read(loaded, p.prompt_ids, p.preferred_ids).logprobs) for p in PAIRS]
    assert states.preferred_logprobs_B().tolist() == pytest.approx(expected, rel=1e-4)


def test_model_that_ignores_the_mask_gets_the_plain_path(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def ignore_mask(attention_mask=None, **arguments):
        if attention_mask is not None and attention_mask.ndim == 4:
            attention_mask = None
        return plain(attention_mask=attention_mask, **arguments)

    decoder.forward = ignore_mask
    forward, reason = choose_forward(llama, PAIRS)
    assert isinstance(forward, TwoForwards)
    assert "hidden states would differ" in reason


def test_a_model_is_looked_at_behind_the_fork_where_responses_are_of_one_token(llama):
    """Longer ones may follow in another run, and it is looked at once."""
    one_token = [make_pair(n, range(n, n + 5), [20 + n], [40 + n]) for n in range(3)]
    decoder = llama.model.base_model
    plain = decoder.forward

    def ignore_mask(attention_mask=None, **arguments):
        return plain(**arguments)

    decoder.forward = ignore_mask
    assert isinstance(choose_forward(llama, one_token)[0], TwoForwards)


def test_model_that_refuses_the_mask_gets_the_plain_path(llama):
    decoder = llama.model.base_model
    plain = decoder.forward

    def refuse(attention_mask=None, **arguments):
        if attention_mask is not None and attention_mask.ndim == 4:
            raise ValueError("two dimensions, please")
        return plain(attention_mask=attention_mask, **arguments)

    decoder.forward = refuse
    forward, reason = choose_forward(llama, PAIRS)
    assert isinstance(forward, TwoForwards)
    assert "two dimensions, please" in reason


def test_scaled_logits_get_the_plain_path(llama):
    plain = llama.model.forward

    def scale(*arguments, **named):
        output = plain(*arguments, **named)
        output.logits = output.logits / 2
        return output

    llama.model.forward = scale
    forward, reason = choose_forward(llama, PAIRS)
    assert isinstance(forward, TwoForwards)
    assert "logits would differ" in reason


def test_pairs_beyond_a_sliding_window_get_the_plain_path(llama):
    llama.model.config.sliding_window = 16
    assert choose_forward(llama, [make_pair(0, [1] * 8, [2, END], [3, END])])[1] is None
    forward, reason = choose_forward(llama, [make_pair(0, [1] * 20, [2, END], [3, END])])
    assert isinstance(forward, TwoForwards)
    assert "16 tokens only" in reason


@given(st.integers(1, 60), st.integers(1, 400), st.one_of(st.none(), st.integers(1, 9)))
def test_batches_hold_every_pair_once_within_the_budget(count, budget, most_pairs):
    pairs = random_pairs(count)
    batches = token_batches(pairs, lambda pair: pair.tokens, budget, most_pairs)
    assert sorted(p.pair for batch in batches for p in batch) == list(range(count))
    for batch in batches:
        padded = len(batch) * max(pair.tokens for pair in batch)
        assert padded <= budget or len(batch) == 1
        assert most_pairs is None or len(batch) <= most_pairs


def test_short_rows_are_not_padded_to_long_ones_once_a_batch_is_large_enough():
    pairs = [make_pair(n, [1] * length, [2, END], [3, END]) for n, length in enumerate(
        [400] * 4 + [390] * 2 + [100] * 4
    )]  # fmt: skip
    tokens = SharedPrefixForward(load()).row_tokens
    lengths = [[len(p.prompt_ids) for p in batch] for batch in token_batches(pairs, tokens, 4096)]
    assert lengths == [[400] * 4 + [390] * 2, [100] * 4]
    few = [pairs[0], pairs[6]]  # one row of 400 is less than an eighth of the budget
    assert len(token_batches(few, tokens, 4096)) == 1


def test_out_of_memory_halves_the_budget_and_loses_no_pair():
    pairs, messages, done = random_pairs(20), [], []
    budget = TokenBudget(512, messages.append)

    def work(batch):
        if sum(pair.tokens for pair in batch) > 80:
            raise torch.OutOfMemoryError("no memory")
        done.extend(pair.pair for pair in batch)

    in_batches(pairs, lambda pair: pair.tokens, budget, GoOn(), work)
    assert sorted(done) == list(range(20))
    assert budget.tokens < 512
    assert "going on with 256 tokens" in messages[0]


def test_single_pair_that_does_not_fit_is_named():
    def work(batch):
        raise torch.OutOfMemoryError("no memory")

    budget = TokenBudget(512, lambda _: None)
    with pytest.raises(MemoryError, match="Pair 0 alone"):
        in_batches(random_pairs(1), lambda pair: pair.tokens, budget, GoOn(), work)


def test_pair_beyond_learned_positions_is_named():
    pairs = [make_pair(0, [1], [2, END], [3, END]), make_pair(8, [1] * 600, [2, END], [3, END])]
    with pytest.raises(ValueError, match="Pair 8 has 601 tokens"):
        refuse_too_long(load("gpt2"), pairs)
    refuse_too_long(load("llama"), pairs)


def test_pairs_that_are_done_leave_the_batches_of_the_others_as_they_were():
    pairs = random_pairs(40)

    def batches(done=()):
        found = []
        budget = TokenBudget(128, lambda _: None)
        in_batches(pairs, lambda pair: pair.tokens, budget, GoOn(), found.append, done=done)
        return found

    whole = batches()
    done = {pair.pair for pair in whole[1]} | {whole[2][0].pair}
    assert len(whole) > 4
    assert batches(done) == [batch for batch in whole if batch != whole[1]]
