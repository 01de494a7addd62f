"""The estimate of a run's memory against what tiny models take: weights, gradients, optimizer state
and adapters exactly, activations within a factor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from chesboard.capacity.estimate import (
    LORA_RANK,
    Setup,
    estimate,
    mask_bytes,
    remedies,
    saved_bytes,
    trained_weights,
)
from chesboard.capacity.shape import ModelSize
from chesboard.configs import (
    CheckConfig,
    GenerateConfig,
    LoraConfig,
    PreflightConfig,
    ScoreConfig,
    TrainConfig,
)
from chesboard.forward import logprobs
from chesboard.forward.select import select_forward
from chesboard.model import LoadedModel
from chesboard.needs import fitting, gigabytes, in_words, remedies_for, setup_of
from tests.tiny_models import BUILDERS, build_llama, build_other, build_tokenizer, random_pairs
from worker.training.optim import make_optimizer
from worker.training.weights import prepare_model

WITHIN = 1.25
"""Factor by which the estimate of activations may be off, for the architecture that it counts."""


def saved(folder: Path, kind: str) -> tuple[Any, ModelSize]:
    model = BUILDERS[kind]()
    model.save_pretrained(folder)
    size = ModelSize.at(folder)
    assert size is not None
    return model, size


def parts(setup: Setup) -> dict[str, int]:
    return {part.name: part.bytes for part in estimate(setup).parts}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of all tensors of a state but the counters of steps."""
    states = optimizer.state.values()
    return sum(t.nbytes for state in states for name, t in state.items() if name != "step")


@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2", "gemma2", "opt", "mamba"])
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "sgd"])
def test_weights_gradients_and_the_optimizer_s_state_are_exact(
    tmp_path: Path, kind: str, optimizer: Any
) -> None:
    model, size = saved(tmp_path, kind)
    weights = list(model.parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    config = TrainConfig(optimizer=optimizer)
    made = make_optimizer(weights, config)
    made.step()
    setup = setup_of(config, size, "cpu")
    assert setup is not None
    found = parts(setup)
    assert found["weights"] == sum(weight.nbytes for weight in weights)
    assert found["gradients"] == sum(w.grad.nbytes for w in weights if w.grad is not None)
    assert found.get("optimizer", 0) == state_bytes(made)
    assert estimate(setup).certain == sum(
        found.get(name, 0) for name in ("weights", "gradients", "optimizer")
    )


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_adapters_are_counted_exactly(tmp_path: Path, targets: Any) -> None:
    model, size = saved(tmp_path, "untied llama")
    base = sum(weight.nbytes for weight in model.parameters())
    config = TrainConfig(lora=LoraConfig(rank=3, target_modules=targets))
    loaded = LoadedModel(model, build_tokenizer(False), torch.device("cpu"), torch.float32, "tiny")
    prepare_model(loaded, config.lora)
    adapters = [one for one in loaded.model.parameters() if one.requires_grad]
    setup = setup_of(config, size, "cpu")
    assert setup is not None
    assert trained_weights(setup) == sum(one.numel() for one in adapters)
    found = parts(setup)
    assert found["weights"] == base + sum(one.nbytes for one in adapters)
    assert found["gradients"] == sum(one.nbytes for one in adapters)
    assert found["optimizer"] == 2 * found["gradients"]


def kept_bytes(loaded: LoadedModel, pairs: Any) -> int:
    """What a forward pass keeps for its backward pass, weights left out."""
    weights = {one.untyped_storage().data_ptr() for one in loaded.model.parameters()}
    kept: dict[int, int] = {}

    held: list[torch.Tensor] = []  # until all is counted, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    forward, _ = select_forward(loaded, pairs)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = forward(pairs)
    assert states.logprobs_U2 is not None
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_of_a_training_step_are_within_a_factor(
    tmp_path: Path, dtype: torch.dtype, checkpointing: bool
) -> None:
    torch.manual_seed(0)
    model = build_other("llama", num_hidden_layers=6, hidden_size=64, intermediate_size=160)
    model.save_pretrained(tmp_path)
    size = ModelSize.at(tmp_path)
    assert size is not None
    loaded = LoadedModel(model, build_tokenizer(False), torch.device("cpu"), dtype, "tiny")
    prepare_model(loaded, None)
    pairs = random_pairs(24, longest=40)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()  # transformers checkpoints in this mode alone; there is no dropout
    forward, _ = select_forward(loaded, pairs)
    longest = max(map(forward.row_tokens, pairs))
    setup = Setup(
        work="train",
        model=size,
        computed=dtype.itemsize,
        batch_tokens=longest * len(pairs),
        longest=longest,
        gradient_checkpointing=checkpointing,
    )
    found = parts(setup)
    expected = found["activations"]
    if checkpointing:
        # Not seen here: what a layer keeps while it is computed once more, and the mask, which is
        # an argument of the layers and no tensor that autograd saves.
        assert size.shape is not None
        expected -= saved_bytes(size.shape, dtype.itemsize) * setup.tokens
        expected -= mask_bytes(setup)
    else:  # those that autocast makes of weights are seen as well
        expected += found.get("weights in bfloat16", 0)
    measured = kept_bytes(loaded, pairs)
    assert measured / WITHIN <= expected <= measured * WITHIN


def test_the_constants_of_the_head_are_those_of_its_module() -> None:
    from chesboard.capacity import estimate as module

    assert module.KEPT_LOGITS == logprobs.KEEP_BYTES
    assert module.TILE_BYTES == logprobs.TILE_BYTES


SEVEN_B = ModelSize.of(
    {
        "model.embed_tokens.weight": (32_000, 4096),
        "lm_head.weight": (32_000, 4096),
        "model.norm.weight": (4096,),
        **{
            f"model.layers.{layer}.{name}.weight": extents
            for layer in range(32)
            for name, extents in {
                "self_attn.q_proj": (4096, 4096),
                "self_attn.k_proj": (4096, 4096),
                "self_attn.v_proj": (4096, 4096),
                "self_attn.o_proj": (4096, 4096),
                "mlp.gate_proj": (11_008, 4096),
                "mlp.up_proj": (11_008, 4096),
                "mlp.down_proj": (4096, 11_008),
            }.items()
        },
    },
    {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "intermediate_size": 11_008, "vocab_size": 32_000,
    },
)  # fmt: skip
"""Llama 2 7B, but for its norms."""


def gb(config: Any, **arguments: Any) -> dict[str, float]:
    assert SEVEN_B is not None
    setup = setup_of(config, SEVEN_B, arguments.pop("device", "cuda"), **arguments)
    assert setup is not None
    return {name: round(size / 1e9, 1) for name, size in parts(setup).items()}


def test_a_model_of_seven_billion_parameters() -> None:
    assert SEVEN_B is not None
    assert round(SEVEN_B.parameters / 1e9, 2) == 6.74
    whole = gb(TrainConfig(batch_size=1), longest=1000)
    assert (whole["weights"], whole["gradients"], whole["optimizer"]) == (27.0, 27.0, 53.9)
    assert whole["activations"] == 6.8  # 32 layers, 210,944 bytes a token, and little else
    lora = gb(TrainConfig(batch_size=1, lora=LoraConfig()), longest=1000)
    assert (lora["weights"], lora["gradients"]) == (27.1, 0.2)
    scored = gb(ScoreConfig())
    assert scored["weights"] == 13.5
    assert gb(ScoreConfig(stream="always"))["weights"] == 1.3
    answers = gb(GenerateConfig(batch_tokens=8192))
    assert answers["keys and values"] == 4.3
    assert gb(PreflightConfig(), longest=100)["steps and gradients"] == 80.9
    assert gb(ScoreConfig(), device="cpu")["weights"] == 27.0  # float32


KNOWN = ("gradient_checkpointing", "lora", "batch_tokens", "optimizer")


def training() -> Setup:
    assert SEVEN_B is not None
    setup = setup_of(TrainConfig(batch_size=4), SEVEN_B, "cuda", longest=1000)
    assert setup is not None
    return setup


def test_each_single_change_that_is_enough_is_a_remedy() -> None:
    setup = training()
    now = estimate(setup)
    found = {one.words: one.needs for one in remedies(setup, now.total - 1, KNOWN, gpus=4)}
    assert set(found) == {
        "gradient checkpointing",
        "LoRA",
        "batch_tokens of 1,000",
        "rmsprop as the optimizer",
        "sgd as the optimizer",
        "2 GPUs",
        "4 GPUs",
    }
    assert found["gradient checkpointing"].certain == now.certain
    assert found["4 GPUs"].certain == pytest.approx(now.certain / 4)
    assert all(needs.total < now.total for needs in found.values())


def test_changes_are_combined_only_where_none_is_enough_alone() -> None:
    setup = training()
    lora = {one.words: one for one in remedies(setup, 10**12, KNOWN)}["LoRA"]
    enough = remedies(setup, lora.needs.total, KNOWN)
    assert "LoRA" in {one.words for one in enough}
    assert not any(" and " in one.words for one in enough)
    least = min(
        (estimate(replace(setup, lora_rank=16, gradient_checkpointing=True))).total,
        lora.needs.total - 1,
    )
    both = {one.words: one for one in remedies(setup, least, KNOWN)}
    assert both["gradient checkpointing and LoRA"].settings == {
        "gradient_checkpointing": True,
        "lora": {},
    }
    assert remedies(setup, 10**9, KNOWN) == []


def test_remedies_are_what_the_configuration_can_say() -> None:
    config, setup = TrainConfig(batch_size=4), training()
    found = remedies_for(config, setup, int(140e9))
    assert "LoRA" in {remedy.words for remedy in found}
    for remedy in found:
        TrainConfig.model_validate({**config.model_dump(), **remedy.settings})
        assert remedy.needs.total <= 0.9 * 140e9
    assert remedies_for(config, setup, int(1e12)) == []


def test_the_rank_of_the_adapters_is_the_default() -> None:
    assert LoraConfig().rank == LORA_RANK


def test_a_score_run_that_does_not_fit_is_streamed_where_it_may_be() -> None:
    assert SEVEN_B is not None
    for stream, streamed in (("auto", True), ("never", False), ("always", True)):
        config = ScoreConfig.model_validate({"stream": stream})
        setup = setup_of(config, SEVEN_B, "cuda")
        assert setup is not None
        assert fitting(config, setup, int(8e9))[0].streamed == streamed
    config = ScoreConfig()
    setup = setup_of(config, SEVEN_B, "cuda")
    assert setup is not None
    assert not fitting(config, setup, int(80e9))[0].streamed


def test_kinds_that_hold_no_language_model_have_no_setup() -> None:
    assert SEVEN_B is not None
    assert setup_of(CheckConfig(), SEVEN_B, "cpu") is None


def test_sizes_in_words() -> None:
    assert [gigabytes(size) for size in (1.2e7, 5.4e8, 6.24e9, 1.71e10)] == [
        "12 MB", "0.54 GB", "6.2 GB", "17 GB",
    ]  # fmt: skip
    assert SEVEN_B is not None
    setup = setup_of(TrainConfig(batch_size=1), SEVEN_B, "cpu", longest=10)
    assert setup is not None
    said = in_words(estimate(setup).parts)
    assert said.startswith("optimizer 54 GB, weights 27 GB, gradients 27 GB")


def test_the_reference_model_and_another_one_are_counted_where_they_are_held() -> None:
    assert SEVEN_B is not None
    setup = Setup("train", SEVEN_B, reference_model=True, beside=7)
    found = parts(setup)
    assert found["reference model"] == found["weights"]
    assert found["other model"] == 7


def test_a_tied_head_is_one_tensor(tmp_path: Path) -> None:
    model = build_llama(tied=True)
    model.save_pretrained(tmp_path)
    size = ModelSize.at(tmp_path)
    assert size is not None
    assert size.parameters == sum(one.numel() for one in model.parameters())
