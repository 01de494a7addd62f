"""Opening a model of which one layer at a time is in memory.

transformers builds and fills the model as ever, with deferred tensors in the place of those in its
files; then all but the layers' are read.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from chesboard.capacity.estimate import STREAMED_LAYERS
from chesboard.causal_lm import (
    ModelError,
    ReadModel,
    quantization_method,
    reason_of,
    refuse_if_bidirectional,
    refuse_if_damaged,
    refuse_if_incomplete,
    unusable,
    unused_tensors,
)
from chesboard.forward.deferred import Deferred, deferred_tensors, read
from chesboard.forward.layer_stream import LayerStream
from chesboard.memory import free_bytes
from chesboard.transformers_api import dtype_option


def read_streamed(name: str, folder: Path, dtype: torch.dtype, device: torch.device) -> ReadModel:
    """The CausalLM of a folder of safetensors in eval mode, of whose layers one at a time is on
    the device. All that is not in its layers, such as the embeddings, is there.

    name: what messages call the model.

    Raises:
        ModelError: as by `read_causal_lm` and `placed`; or its weights are quantized, it is not
            made of layers, or too large even so.
    """
    if folder.is_file():
        raise unusable(
            name,
            "A GGUF file is dequantized as a whole, not layer by layer. Take the model as "
            "safetensors.",
        )
    try:
        model, info = _described(name, folder, dtype)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"The model “{name}” cannot be loaded: {reason_of(error)}") from error
    refuse_if_incomplete(info)
    layers = _layers(name, model)
    weights = _weights_of_layers(model, layers)
    streamed = {id(one) for layer in weights for one in layer.values()}
    _refuse_if_too_large(name, model, weights, streamed, device)
    _read_the_rest(model, streamed, device)
    refuse_if_damaged(
        (path, weight) for path, weight in model.named_parameters() if weight.device.type != "meta"
    )
    LayerStream(model, layers, weights, device)
    refuse_if_bidirectional(name, model, device)
    return ReadModel(model, tuple(unused_tensors(info)))


def _refuse_if_too_large(
    name: str,
    model: nn.Module,
    weights: list[dict[str, Deferred]],
    streamed: set[int],
    device: torch.device,
) -> None:
    rest = sum(one.nbytes for one in model.parameters() if id(one) not in streamed)
    layer = max(sum(one.nbytes for one in found.values()) for found in weights)
    needed = rest + STREAMED_LAYERS * layer
    if needed > (free := free_bytes(device)):
        raise ModelError(
            f"The model “{name}” needs {needed / 2**30:.1f} GiB even if one layer after the other "
            f"is read, but {device} has {free / 2**30:.1f} GiB free. Choose a smaller model or "
            "another device."
        )


def _described(name: str, folder: Path, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The model with deferred tensors for weights, and what `output_loading_info` gives."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if (method := quantization_method(config)) is not None:
        raise unusable(
            name,
            f"Its weights are quantized ({method}), and such are not read layer by layer. Take "
            "the model in its original precision, or a device that holds it.",
        )
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    # Its configuration, too: of a model that reads images, that of the language model alone.
    model, info = type(skeleton).from_pretrained(
        None,
        config=skeleton.config,
        state_dict=deferred_tensors(folder),
        **dtype_option(dtype),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused by name
    )
    return model, info


def _layers(name: str, model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of the layers: the list of modules that holds most of the weights."""
    lists = [(path, one) for path, one in model.named_modules() if isinstance(one, nn.ModuleList)]
    if not lists:
        raise unusable(name, "It has no layers that could be read one by one.")
    # Of lists within lists, such as a layer's experts, the outer one holds more.
    path, found = max(lists, key=lambda one: sum(p.numel() for p in one[1].parameters()))
    return [(f"{path}.{number}", layer) for number, layer in enumerate(found)]


def _weights_of_layers(
    model: nn.Module, layers: list[tuple[str, nn.Module]]
) -> list[dict[str, Deferred]]:
    """The deferred tensors of each layer; those that belong to another part as well stay out."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            owners[id(tensor)] = owners.get(id(tensor), 0) + 1
    return [
        {
            path: tensor
            for path, tensor in layer.state_dict(keep_vars=True).items()
            if isinstance(tensor, Deferred) and owners[id(tensor)] == 1
        }
        for _, layer in layers
    ]


def _read_the_rest(model: nn.Module, streamed: set[int], device: torch.device) -> None:
    """Read every deferred tensor but the streamed ones, which become meta tensors."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for path, tensor in held.items():
                if tensor is not None:
                    if id(tensor) not in made:
                        made[id(tensor)] = _placed(tensor, id(tensor) in streamed, device), tensor
                    held[path] = made[id(tensor)][0]


def _placed(tensor: Tensor, is_streamed: bool, device: torch.device) -> Tensor:
    if is_streamed:
        placed = torch.empty_like(tensor.meta, device="meta")  # type: ignore[attr-defined]
    elif isinstance(tensor, Deferred):
        [numbers] = read([tensor])
        placed = numbers.to(device)
    else:
        placed = tensor.detach().to(device)
    is_weight = isinstance(tensor, nn.Parameter)
    return nn.Parameter(placed, tensor.requires_grad) if is_weight else placed
