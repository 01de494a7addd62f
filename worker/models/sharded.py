"""Models whose weights are spread over the processes of a run by FSDP2, and whole again at its end.

Each process reads its part of every tensor alone.
"""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from chesboard import cpu
from chesboard.causal_lm import ModelError, placed, read_causal_lm, unusable
from chesboard.configs import ModelConfig
from chesboard.cpu.precision import computed_in
from chesboard.loading import asked_dtype, read_tokenizer, tokenizer_notes
from chesboard.model import LoadedModel, without_adapters
from chesboard.sharding import layer_class, reshard
from worker.models.loading import refuse_if_quantized
from worker.models.progress import OnPhase, tensors_reported


def load_sharded(config: ModelConfig, location: str, on_phase: OnPhase) -> LoadedModel:
    """The model of a folder in eval mode, with float32 weights of which this process has a part.
    Called by all processes of a run.

    Raises:
        ModelError: it cannot be read, is incomplete or damaged, or not of a kind whose layers are
            known.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    compute_dtype = computed_in(asked_dtype(config.dtype, device), device)
    on_phase("loading")
    tokenizer = read_tokenizer(config.model, location)
    try:
        from transformers.distributed import DistributedConfig
    except ImportError as error:
        raise ModelError(
            "Training on several GPUs needs a newer version of transformers, which spreads weights "
            "while it loads them: `pip install --upgrade transformers`."
        ) from error
    own_config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    model_class = _class_of(own_config)
    with torch.device("meta"):
        skeleton = model_class(copy.deepcopy(own_config))
    plan = _layers(config.model, skeleton)
    spread = DistributedConfig(
        fsdp_size=dist.get_world_size(), fsdp_plan=dict.fromkeys(plan, "free_full_weight")
    )
    with tensors_reported(on_phase, "loading"), _spread_our_way(model_class, own_config):
        read = read_causal_lm(
            config.model, location, torch.float32, config=own_config, distributed_config=spread
        )
    refuse_if_quantized(config.model, read.model)
    _refuse_if_untied(config.model, read.model, skeleton)
    model = placed(config.model, read.model, device)
    reshard(model)  # it was run
    cpu.install(model, blockwise_attention=False)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        compute_dtype=compute_dtype,
        name=config.model,
        notes=(*read.notes, *tokenizer_notes(tokenizer, model)),
    )


def _class_of(config: Any) -> Any:
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _layers(name: str, skeleton: Any) -> list[str]:
    """The names of the model's layers, with `*` for their numbers.

    Only these gather their weights apart. All others, embedding and head among them, are gathered
    at the beginning of a forward pass, where this package reads the head's.
    """
    layers = [
        path
        for path, one in skeleton.named_modules()
        if isinstance(one, GradientCheckpointingLayer)
    ]
    if not layers:
        raise unusable(
            name,
            f"transformers knows no layers of {type(skeleton).__name__} that several GPUs could "
            "gather one after the other. Train it on one GPU.",
        )
    outer = [path for path in layers if not any(path.startswith(f"{one}.") for one in layers)]
    return sorted({re.sub(r"\.\d+(?=\.|$)", ".*", path) for path in outer})


@contextmanager
def _spread_our_way(model_class: Any, config: Any) -> Iterator[None]:
    """Two things that transformers does otherwise while it loads.

    It adds its own plan to a given one, and gathers the head where the head is called; here its
    weight is read without that. And it ties an embedding to the head only once FSDP2 has made two
    weights of them: where their rows are no multiple of the processes, FSDP2 then goes on reading
    the first of two copies, of which the optimizer updates the second.
    """
    config.base_model_fsdp_plan = {}
    former = vars(model_class).get("_fsdp_plan")
    spread = model_class.maybe_distribute_model

    def tied_first(model: Any, *arguments: Any) -> Any:
        model.tie_weights(recompute_mapping=False)
        return spread(model, *arguments)

    model_class._fsdp_plan = {}
    model_class.maybe_distribute_model = staticmethod(tied_first)
    try:
        yield
    finally:
        del model_class.maybe_distribute_model
        if former is None:
            del model_class._fsdp_plan
        else:
            model_class._fsdp_plan = former


def _refuse_if_untied(name: str, model: Any, skeleton: Any) -> None:
    """The files may hold two weights where the configuration says that they are one."""
    for one, other in skeleton.all_tied_weights_keys.items():
        if model.get_parameter(one) is not model.get_parameter(other):
            raise unusable(
                name,
                f"Its configuration ties {one} to {other}, but its files hold two different "
                "weights. Set tie_word_embeddings to false in its config.json, or train it on one "
                "GPU.",
            )


def whole_model(loaded: LoadedModel) -> Any:
    """The trained model on the CPU of the first process, adapters merged; None in the others.
    Called by all processes."""
    sharded = without_adapters(loaded.model)
    state = get_model_state_dict(
        sharded, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if dist.get_rank() != 0:
        return None
    config = copy.deepcopy(sharded.config)
    vars(config).pop("distributed_config", None)
    model_class: Any = layer_class(sharded)
    with torch.device("meta"):
        model = model_class(config)
    model.load_state_dict(_merged(sharded, state), assign=True)
    model.tie_weights()
    model.generation_config = sharded.generation_config
    return model


def _merged(sharded: torch.nn.Module, state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights by the names that they have without adapters, which are added to theirs."""
    from peft.tuners.lora import LoraLayer

    for name, module in sharded.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        for key in [key for key in state if key.startswith(f"{name}.")]:
            weight = state.pop(key)
            part = key.removeprefix(f"{name}.")
            if part.startswith("base_layer."):
                state[f"{name}.{part.removeprefix('base_layer.')}"] = weight
        for adapter in module.active_adapters:
            delta: Tensor = module.get_delta_weight(adapter)
            state[f"{name}.weight"] = state[f"{name}.weight"] + delta.detach().cpu()
    return state
