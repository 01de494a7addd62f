"""The sizes of a language model that its memory depends on: from its configuration and the headers
of its files, without weights.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from chesboard.model_files.gguf import read_gguf
from chesboard.model_files.headers import tensor_shapes
from chesboard.model_files.inspection import weight_files
from chesboard.model_files.json_files import FaultyFileError, read_json

_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim", "hidden_dim", "embedding_length"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention.head_count"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "attention.head_count_kv"),
    "head_size": ("head_dim", "attention.key_length"),
    "inner": (
        "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "feed_forward_length",
    ),
    "vocabulary": ("vocab_size", "n_vocab"),
    "experts": ("num_experts_per_tok", "moe_topk", "expert_used_count"),
}  # fmt: skip
"""How architectures of transformers, and GGUF files, call their sizes."""
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
"""The number of a layer in a tensor's name; of several, such as an expert's, the first."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """hidden: size of a token's state. inner: of a feed-forward layer; of a mixture, of the experts
    together that read one token. whole_logits: the head runs with the model, at every token."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    whole_logits: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """The shape of a model of this config.json; None where that does not say."""
        text = config.get("text_config") or config.get("llm_config")
        if isinstance(text, Mapping):
            config = text
        found = {name: _whole_number(config, names) for name, names in _NAMES.items()}
        hidden, layers, vocabulary = found["hidden"], found["layers"], found["vocabulary"]
        if not hidden or not layers or not vocabulary:
            return None
        heads = found["heads"] or 1
        return cls(
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=found["kv_heads"] or heads,
            head_size=found["head_size"] or max(1, hidden // heads),
            inner=(found["inner"] or 4 * hidden) * (found["experts"] or 1),
            vocabulary=vocabulary,
            whole_logits=bool(config.get("final_logit_softcapping")),
        )

    @property
    def attended(self) -> int:
        """Numbers of a token's query in one layer."""
        return self.heads * self.head_size

    def cache_bytes(self, tokens: int, itemsize: int) -> int:
        """Keys and values of so many tokens in every layer."""
        return tokens * self.layers * 2 * self.kv_heads * self.head_size * itemsize


def _whole_number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, list) and value:  # one a layer, as in OpenELM
            value = max((one for one in value if isinstance(one, int)), default=None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


@dataclass(frozen=True, slots=True)
class ModelSize:
    """parameters: of all tensors in the files; what is tied is there once. linear: (rows, columns)
    of the matrices that LoRA adapts, by name. largest_layer, rest: parameters of one layer, and of
    what is in none."""

    parameters: int
    largest_layer: int
    rest: int
    linear: Mapping[str, tuple[int, int]]
    shape: ModelShape | None

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """The size of the model in a folder of safetensors or a GGUF file; None where their headers
        cannot be read."""
        if path.is_file():
            header = read_gguf(path)
            if header is None:
                return None
            kind = header.metadata.get("general.architecture", "")
            config = {
                name.removeprefix(f"{kind}."): value for name, value in header.metadata.items()
            }
            rows = header.shapes.get("token_embd.weight")
            return cls.of(header.shapes, config | ({"vocab_size": rows[0]} if rows else {}))
        try:
            config = read_json(path / "config.json")
            found = [tensor_shapes(file) for file in weight_files(path)]
        except FaultyFileError:
            return None
        return cls.of({name: one for file in found for name, one in file.items()}, config)

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> Self | None:
        """By the shapes of its tensors and its config.json; None where there is no tensor."""
        if not shapes:
            return None
        shape = ModelShape.of(config)
        by_layer: defaultdict[str | None, int] = defaultdict(int)
        for name, extents in shapes.items():
            found = _LAYER.search(name)
            by_layer[found[1] if found else None] += math.prod(extents)
        layers = [count for layer, count in by_layer.items() if layer is not None]
        linear = {
            name.removesuffix(".weight"): (extents[0], extents[1])
            for name, extents in shapes.items()
            if len(extents) == 2 and _LAYER.search(name)
        }
        return cls(
            parameters=sum(by_layer.values()),
            largest_layer=max(layers, default=0),
            rest=by_layer[None],
            linear=linear,
            shape=shape,
        )

    @classmethod
    def of_parameters(cls, parameters: int) -> Self:
        """Where no more than their number is known."""
        return cls(parameters, 0, parameters, {}, None)
