import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from chesboard.cpu import onednn
from chesboard.forward.select import select_forward
from tests.tiny_models import load, random_pairs

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(params=[True, False], ids=["by oneDNN", "by MKL"])
def _whose(request, monkeypatch):
    """Both ways on any processor: oneDNN multiplies everywhere, if not everywhere faster."""
    monkeypatch.setattr(onednn, "mkl_is_slow", lambda: request.param)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.usefixtures("_whose")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (3, 5, 24), (1, 1, 24)], ids=str)
def test_values_and_gradients_are_those_of_float64(shape, bias):
    layer = torch.nn.Linear(24, 9, bias=bias)
    exact = torch.nn.Linear(24, 9, bias=bias).double()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    onednn.install(layer)
    assert type(layer) is onednn.OneDNNLinear
    input_, upstream = draw(*shape), draw(*shape[:-1], 9)
    found, expected = [], []
    for module, x, g, into in (
        (layer, input_, upstream, found),
        (exact, input_.double(), upstream.double(), expected),
    ):
        x = x.clone().requires_grad_()
        y = module(x)
        (y * g).sum().backward()
        into += [y, x.grad, *(parameter.grad for parameter in module.parameters())]
    for ours, true in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_whose")
def test_a_frozen_layer_passes_gradients_on_and_gets_none():
    layer = torch.nn.Linear(24, 9).requires_grad_(False)
    onednn.install(layer)
    input_ = draw(4, 24).requires_grad_()
    layer(input_).sum().backward()
    torch.testing.assert_close(input_.grad, layer.weight.sum(0).expand(4, -1))
    assert layer.weight.grad is None


@pytest.mark.usefixtures("_whose")
@pytest.mark.parametrize(
    "cut",
    [
        lambda t: t,
        lambda t: t.T.contiguous().T,
        lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
        lambda t: t.repeat_interleave(2, 0)[::2],
    ],
    ids=["in one piece", "transposed", "columns of a wider one", "every second row"],
)
def test_factors_may_lie_in_memory_as_they_like(cut):
    input_, weight, bias = draw(6, 24), draw(9, 24), draw(9)
    expected = input_.double() @ weight.double().T
    torch.testing.assert_close(
        onednn.linear(cut(input_), cut(weight), bias).double(),
        expected + bias.double(),
        rtol=1e-5,
        atol=1e-5,
    )
    total = torch.ones(6, 9)
    onednn.add_product(total, cut(input_), cut(weight).T)
    torch.testing.assert_close(total.double(), 1 + expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_whose")
def test_narrow_factors_add_to_a_float32_sum():
    left, right, total = draw(6, 24).bfloat16(), draw(24, 9).bfloat16(), torch.ones(6, 9)
    onednn.add_product(total, left, right)
    expected = 1 + left.double() @ right.double()
    torch.testing.assert_close(total.double(), expected, rtol=1e-2, atol=0.1)


def test_narrow_weights_read_float32_in_float32_where_autocast_is_off():
    layer = torch.nn.Linear(24, 9).bfloat16()
    onednn.install(layer)
    input_ = draw(5, 24)
    with torch.no_grad():
        exact, narrow = layer(input_), layer(input_.bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = layer(input_)
    expected = input_.double() @ layer.weight.double().T + layer.bias.double()
    assert (exact.dtype, narrow.dtype, cast.dtype) == (
        torch.float32,
        torch.bfloat16,
        torch.bfloat16,
    )
    torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-5)


def test_nothing_else_about_a_model_changes():
    model = LlamaForCausalLM(LlamaConfig(**SMALL)).eval()
    before = model.state_dict()
    onednn.install(model)
    assert {type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)} == {
        onednn.OneDNNLinear
    }
    assert all(value is before[name] or torch.equal(value, before[name])
               for name, value in model.state_dict().items())  # fmt: skip
    assert list(model.state_dict()) == list(before)


def test_a_model_gives_the_same_log_probabilities_and_gradients(monkeypatch):
    pairs, found = random_pairs(6), []
    for slow in (False, True):
        monkeypatch.setattr(onednn, "mkl_is_slow", lambda slow=slow: slow)
        loaded = load("untied llama")
        forward, reason = select_forward(loaded, pairs)
        assert reason is None
        states = forward(pairs)
        difference = states.preferred_logprobs_B() - states.dispreferred_logprobs_B()
        difference.sum().backward()
        found.append([difference, *(p.grad for p in loaded.model.parameters())])
    for plain, ours in zip(*found, strict=True):
        assert (plain - ours).norm() <= 1e-4 * plain.norm()


def test_what_a_processor_has_decides(monkeypatch):
    def on(name, avx512):
        onednn.mkl_is_slow.cache_clear()
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: {"cpu_name": name, "avx512_f": avx512}
        )
        return onednn.mkl_is_slow()

    try:
        assert on("AMD EPYC 9R14", True)
        assert not on("AMD EPYC 7R13", False)
        assert not on("Intel(R) Xeon(R) Platinum 8481C", True)
    finally:
        monkeypatch.undo()
        onednn.mkl_is_slow.cache_clear()
