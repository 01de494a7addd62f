"""What `chesboard.cpu.install` changes in a model, twice over, and how it is undone."""

import pytest
import torch

from chesboard import cpu
from chesboard.cpu import attention, onednn
from tests.tiny_models import BUILDERS, load


def fresh(kind="llama", dtype=torch.float32):
    return BUILDERS[kind]().to(dtype).eval()


def layer_types(model):
    return {type(module) for module in model.modules() if isinstance(module, torch.nn.Linear)}


def test_installing_twice_is_installing_once():
    model = fresh()
    for _ in range(2):
        cpu.install(model)
        assert layer_types(model) == {onednn.OneDNNLinear}
        assert model.config._attn_implementation == attention.NAME


def test_the_second_call_sets_how_the_model_attends():
    model = fresh()
    cpu.install(model)
    cpu.install(model, blockwise_attention=False)  # a scored model goes to a training run
    assert model.config._attn_implementation == "sdpa"
    assert layer_types(model) == {onednn.OneDNNLinear}


def test_uninstalling_leaves_the_model_as_it_was():
    model = fresh()
    cpu.install(model)
    cpu.uninstall(model)
    assert layer_types(model) == {torch.nn.Linear}
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("before", [False, True], ids=["not installed before", "installed before"])
def test_for_the_length_of_a_with_statement(before):
    model = fresh()
    if before:
        cpu.install(model)
    seen = []

    def interrupted():
        with cpu.installed(model):
            seen.append(layer_types(model))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert seen == [{onednn.OneDNNLinear}]
    assert onednn.is_installed(model) is before
    assert attention.is_installed(model) is before


def test_precision_is_adapted_once_and_float32_models_are_left_alone():
    model = fresh(dtype=torch.bfloat16)
    cpu.install(model, compute_dtype=torch.float32)
    before = dict(model.named_parameters())
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.get_input_embeddings().weight.dtype == torch.float32
    cpu.install(model, compute_dtype=torch.float32)
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    loaded = load()
    cpu.install(loaded.model, compute_dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_widening_all_weights_can_be_refused():
    def refuse():
        raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        cpu.install(
            fresh("mamba", torch.bfloat16), compute_dtype=torch.float32, before_widening=refuse
        )
