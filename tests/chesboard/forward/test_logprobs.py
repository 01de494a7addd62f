import pytest
import torch

from chesboard.forward import logprobs
from chesboard.forward.logprobs import head_logits, logprobs_of_logits, token_logprobs
from chesboard.model import Head

POSITIONS, HIDDEN, VOCABULARY = 11, 8, 23


def make_inputs(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    targets_U2 = torch.randint(0, VOCABULARY, (POSITIONS, 2), generator=generator)
    targets_U2[3] = 5  # both targets the same
    weights_U2 = torch.randn(POSITIONS, 2, generator=generator)
    inputs = [draw(POSITIONS, HIDDEN), draw(VOCABULARY, HIDDEN)]
    return inputs, draw(VOCABULARY) if bias else None, targets_U2, weights_U2


def naive_logprobs(hidden_UD, weight_VD, bias_V, targets_U2):
    logits = hidden_UD @ weight_VD.T
    if bias_V is not None:
        logits = logits + bias_V
    return torch.log_softmax(logits.float(), -1).gather(-1, targets_U2)


@pytest.fixture(params=["one tile, kept", "tiles, kept", "tiles, some kept", "tiles, none kept"])
def memory(request, monkeypatch):
    """Ways in which the work can be cut up."""
    if "tiles" in request.param:
        monkeypatch.setitem(logprobs.TILE_POSITIONS, "cpu", 3)
        monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", 4 * 3 * 5)
    if "some" in request.param:
        monkeypatch.setitem(logprobs.KEEP_BYTES, "cpu", 4 * POSITIONS * VOCABULARY // 2)
    if "none" in request.param:
        monkeypatch.setitem(logprobs.KEEP_BYTES, "cpu", 0)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_equal_the_plain_formula(bias):
    (hidden, weight), bias_V, targets, upstream = make_inputs(bias=bias)
    leaves = [leaf for leaf in (hidden, weight, bias_V) if leaf is not None]
    expected = naive_logprobs(hidden, weight, bias_V, targets)
    expected_grads = torch.autograd.grad((expected * upstream).sum(), leaves)
    actual = token_logprobs(Head(weight, bias_V, torch.float32), hidden, targets)
    grads = torch.autograd.grad((actual * upstream).sum(), leaves)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("memory")
def test_frozen_head_gets_no_gradient_and_hidden_states_do():
    (hidden, weight), _, targets, upstream = make_inputs()
    frozen = weight.detach()
    (token_logprobs(Head(frozen, None, torch.float32), hidden, targets) * upstream).sum().backward()
    expected = torch.autograd.grad(
        (naive_logprobs(hidden, frozen, None, targets) * upstream).sum(), hidden
    )[0]
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_products_are_normalized_in_float32():
    """Against float64 on the same rounded inputs, only the products' rounding remains."""
    (hidden, weight), _, targets, _ = make_inputs()
    rounded = [t.detach().bfloat16() for t in (hidden, weight)]
    actual = token_logprobs(Head(weight.detach(), None, torch.bfloat16), rounded[0], targets)
    expected = naive_logprobs(rounded[0].double(), rounded[1].double(), None, targets)
    assert actual.dtype == torch.float32
    # A logit has 8 bits: up to 2^-8 of its size, about 10 here.
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.05)


def test_bfloat16_gradient_of_float32_weights_is_float32():
    (hidden, weight), _, targets, upstream = make_inputs()
    (
        token_logprobs(Head(weight, None, torch.bfloat16), hidden, targets) * upstream
    ).sum().backward()
    expected = torch.autograd.grad(
        (naive_logprobs(hidden, weight, None, targets) * upstream).sum(), weight
    )[0]
    assert weight.grad.dtype == torch.float32
    assert (weight.grad - expected).norm() / expected.norm() < 2e-2


def test_uniform_logits_give_minus_log_vocabulary():
    actual = token_logprobs(
        Head(torch.zeros(VOCABULARY, HIDDEN), None, torch.float32),
        torch.randn(4, HIDDEN),
        torch.zeros(4, 2, dtype=torch.long),
    )
    torch.testing.assert_close(actual, -torch.full((4, 2), VOCABULARY).log())


def test_ready_logits_give_the_same():
    (hidden, weight), bias_V, targets, _ = make_inputs()
    head = Head(weight, bias_V, torch.float32)
    torch.testing.assert_close(
        logprobs_of_logits(head_logits(head, hidden), targets),
        token_logprobs(head, hidden, targets),
    )


def test_memory_of_logits_does_not_grow_with_positions(monkeypatch):
    """No tile is larger than the limit, whatever the number of positions."""
    monkeypatch.setitem(logprobs.TILE_POSITIONS, "cpu", 3)
    monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", 4 * 3 * 5)
    monkeypatch.setitem(logprobs.KEEP_BYTES, "cpu", 0)
    sizes = []
    plain = logprobs.word_logits

    def spy(*arguments):
        logits_CW = plain(*arguments)
        sizes.append(logits_CW.nbytes)
        return logits_CW

    monkeypatch.setattr(logprobs, "word_logits", spy)
    hidden = torch.randn(50, HIDDEN, requires_grad=True)
    head = Head(torch.randn(VOCABULARY, HIDDEN), None, torch.float32)
    token_logprobs(head, hidden, torch.zeros(50, 2, dtype=torch.long)).sum().backward()
    assert sum(sizes) == 2 * 4 * 50 * VOCABULARY  # there, and once more on the way back
    assert max(sizes) == 4 * 3 * 5
