"""Gradient checkpointing: the same training in less memory."""

import dataclasses

import pytest
import torch

from chesboard.configs import TrainConfig
from chesboard.model import causal_model
from tests.tiny_models import GoOn, KeepingReporter, load, make_pair, random_pairs
from worker.training.loop import train

BASE = {"learning_rate": 1e-3, "batch_size": 3, "epochs": 2, "probe_every": 3}
LORA = {"rank": 2, "dropout": 0.2}
COMMON = list(range(100, 230))
SHARING = [
    dataclasses.replace(pair, prompt_ids=[*COMMON, *pair.prompt_ids]) for pair in random_pairs(7)
]
"""Pairs whose prompts have a beginning in common that is worth a pass of its own."""


def trained(folder, kind="llama", pairs=None, **config):
    loaded, reporter = load(kind), KeepingReporter()
    pairs = pairs or random_pairs(7)
    train(loaded, pairs, TrainConfig(**BASE, **config), reporter, GoOn(), folder, pairs[:2])
    losses = [(metric.loss, metric.grad_norm) for metric in reporter.metrics]
    weights = dict(loaded.model.named_parameters())
    return losses, weights, reporter


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {}),
        ("llama", {"lora": LORA}),
        ("llama", {"gradient_accumulation": 2, "max_grad_norm": 0.1}),
        ("gpt2", {}),
        ("opt", {}),  # its layers have a dropout of their own, which stays off
        ("gemma2", {"answer_every": 2, "answer_tokens": 2}),  # two passes for a pair
    ],
)
def test_losses_weights_and_looks_are_the_same_to_the_last_bit(tmp_path, kind, config):
    losses, weights, plain = trained(tmp_path / "plain", kind, **config)
    again, others, reporter = trained(
        tmp_path / "less", kind, gradient_checkpointing=True, **config
    )
    assert again == losses
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert reporter.probe_steps == plain.probe_steps
    assert reporter.answers == plain.answers
    assert reporter.references == plain.references
    assert reporter.final_records == plain.final_records


def test_a_common_beginning_of_the_prompts_is_computed_in_every_row(tmp_path):
    """Its keys and values would be appended to once more where a layer is computed again."""
    losses, weights, _ = trained(tmp_path / "plain", pairs=SHARING, optimizer="sgd")
    again, others, _ = trained(
        tmp_path / "less", pairs=SHARING, optimizer="sgd", gradient_checkpointing=True
    )
    for one, other in zip(losses, again, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-5, atol=1e-5)


def test_what_a_layer_computes_within_is_not_kept(tmp_path):
    """Bytes that the backward pass finds stored, of steps over one long pair."""
    kept = []
    for on in (False, True):
        size = 0

        def store(tensor):
            nonlocal size
            size += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            trained(
                tmp_path / str(on), pairs=[make_pair(0, [1] * 200, [2, 3], [4, 5])],
                max_steps=1, gradient_checkpointing=on,
            )  # fmt: skip
        kept.append(size)
    assert kept[1] < kept[0] / 3


def test_a_model_without_layers_to_compute_again_is_refused(tmp_path):
    loaded = load()
    for name, layer in list(causal_model(loaded).model.layers.named_children()):
        causal_model(loaded).model.layers[int(name)] = torch.nn.Sequential(layer.mlp)
    config = TrainConfig(gradient_checkpointing=True)
    with pytest.raises(ValueError, match="gradient_checkpointing: transformers knows no layers"):
        train(loaded, random_pairs(2), config, KeepingReporter(), GoOn(), tmp_path, [])
