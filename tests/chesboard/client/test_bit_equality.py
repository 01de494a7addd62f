"""A watched training is the same to the last bit: losses, weights, optimizer and random numbers."""

from typing import Any

import pytest
import torch
from torch import nn

import chesboard
from chesboard.client.guard import undisturbed
from tests.chesboard.client.trainings import assert_same, trained
from tests.tiny_models import load, rope_settings


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=4, lora_alpha=8, lora_dropout=0.3, target_modules="all-linear")


CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "accumulation": {"gradient_accumulation_steps": 2},
    "bfloat16 autocast": {"bf16": True},
    "LoRA with dropout": {"lora": lora},
}


@pytest.mark.parametrize("case", CASES)
def test_a_watched_training_is_the_same_to_the_last_bit(case, tmp_path, server) -> None:
    arguments = {name: value() if callable(value) else value for name, value in CASES[case].items()}
    alone = trained(tmp_path / "alone", **arguments)
    callback = chesboard.Callback(
        probe_every=1, url=server.url, prompts=["Yes"], answer_every=2, answer_tokens=3
    )
    watched = trained(tmp_path / "watched", callbacks=[callback], **arguments)
    assert_same(alone, watched)
    assert callback.watch is not None
    assert callback.watch.failures == 0
    assert server.only.looks == [0, 1, 2, 3, 4, 5, 6]
    assert server.only.steps == [1, 2, 3, 4, 5, 6]
    assert server.only.status == "succeeded"
    losses = [entry["loss"] for entry in alone.logs if "loss" in entry]
    assert len(set(losses)) == 6, "a training that does not move proves nothing"


class Untouchable(nn.Dropout):
    """Counts how often it is told to train."""

    calls = 0

    def train(self, mode: bool = True) -> "Untouchable":
        self.calls += 1
        return super().train(mode)


def test_every_flag_and_generator_is_put_back() -> None:
    import random

    import numpy as np

    untouchable = Untouchable(0.5)
    model = nn.Sequential(nn.Linear(2, 2), untouchable, nn.Sequential(nn.Dropout()))
    model.train()
    model[2].eval()
    untouchable.calls = 0
    before = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3), random.random(), np.random.rand(3)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    assert torch.is_grad_enabled()
    assert untouchable.calls == 0


def test_it_is_put_back_where_a_look_fails() -> None:
    model = nn.Dropout()
    with pytest.raises(ValueError, match="broken"), undisturbed(model):
        raise ValueError("broken")
    assert model.training
    assert torch.is_grad_enabled()


def test_an_autocast_of_the_callers_keeps_its_rounded_weights() -> None:
    """Without this, a weight that is first rounded within a look would get no gradient."""
    layer = nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with undisturbed(layer):
            assert layer(torch.ones(1, 4)).dtype == torch.float32
            with torch.autocast("cpu", dtype=torch.bfloat16):
                layer(torch.ones(1, 4))
        layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight.grad is not None


def test_frequencies_that_go_by_the_longest_text_are_put_back() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8,
        **rope_settings({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}),
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model(torch.arange(20)[None])  # longer than its positions: the frequencies change
    [rope] = [module for module in model.modules() if hasattr(module, "max_seq_len_cached")]
    kept, frequencies = rope.max_seq_len_cached, rope.inv_freq
    with undisturbed(model):
        rope.max_seq_len_cached = 0
        model(torch.arange(30)[None])
    assert rope.max_seq_len_cached == kept
    assert rope.inv_freq is frequencies


def test_a_look_leaves_no_gradient() -> None:
    loaded = load()
    with undisturbed(loaded.model):
        loaded.model(torch.arange(5)[None])
    assert all(weight.grad is None for weight in loaded.model.parameters())
