"""The memory that a run needs, part by part, from the sizes of its model and its settings.

Weights, gradients and the optimizer's state are exact. The rest is an estimate for decoders with
gated feed-forward layers: at most what the longest batch takes, and nothing for fragmentation.
Letters: T tokens of a forward pass, padding included; W tokens of its longest row; L layers, h
hidden size, a = heads * head size, i inner size, V vocabulary; c bytes of a number as it is
computed with (2 in bfloat16), 4 of one in float32.

- Optimizer state: two float32 moments a weight for AdamW (Rajbhandari et al., ZeRO, arXiv
  1910.02054, section 3.1), one for RMSprop, none for SGD without momentum.
- Activations that a backward pass needs: counted as in Korthikanti et al. (arXiv 2205.05198,
  section 4.1), for RMS norms, rotary positions, gated feed-forward layers and attention that stores
  no T x T scores: in each layer 4h numbers in float32 (what two norms read and give) and
  2h + 5a + 4i as computed (what the products read, queries, keys, values, attention's output twice,
  gate, up, and both of their products). With gradient checkpointing L inputs of layers, h each, and
  one layer's activations (section 5.2, "full recomputation").
- FSDP: weights, gradients and state are divided by the GPUs; two layers and what is in none are
  gathered at a time.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from chesboard.capacity.shape import ModelShape, ModelSize

Work = Literal["score", "train", "preflight", "generate"]
STATE_BYTES: Mapping[str, int] = {"adamw": 8, "rmsprop": 4, "sgd": 0}
"""Of a trained weight, by optimizer."""
FLOAT32 = 4
KEPT_LOGITS = {"cpu": 512 << 20, "cuda": 1 << 30}
"""As `KEEP_BYTES` of chesboard.forward.logprobs, which this module cannot import without torch."""
TILE_BYTES = {"cpu": 6 << 20, "cuda": 512 << 20}
"""As `TILE_BYTES` there."""
TILES = 2
"""Of logits at a time: themselves, and what is computed of them."""
STREAMED_LAYERS = 2
"""One that is computed, and the next one, which is read meanwhile."""
GATHERED_LAYERS = 2
"""Under FSDP: one that is computed, and the next one, which is gathered meanwhile."""
LORA_RANK = 16
"""The default of chesboard.configs.LoraConfig."""
MOST_CHANGES = 3
"""How many changes together are tried to make a run fit."""
WAITING_STATES = 4
"""Tensors of the size of hidden states that a batch keeps while it waits for a streamed layer."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What of a run its memory depends on.

    weights: bytes of one as it is held. computed: bytes of a number as it is computed with.
    batch_tokens: of a forward pass, padding included. longest: tokens of the longest row.
    trained: whether all weights are trained; with `lora_rank` only adapters are. target_modules:
    ends of the names of the layers that get them; None: all linear layers.
    cached_tokens: whose keys and values are kept while answers are generated.
    beside: bytes of another model that is held. reference_model: whether the reference is held as a
    model of its own; here its log-probabilities are computed once, before the training.
    """

    work: Work
    model: ModelSize
    device: str = "cpu"
    weights: int = FLOAT32
    computed: int = FLOAT32
    batch_tokens: int = 4096
    longest: int = 4096
    optimizer: str = "adamw"
    lora_rank: int | None = None
    target_modules: tuple[str, ...] | None = None
    gradient_checkpointing: bool = False
    reference_model: bool = False
    cached_tokens: int = 0
    beside: int = 0
    gpus: int = 1
    streamed: bool = False

    @property
    def tokens(self) -> int:
        return max(self.batch_tokens, self.longest)


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes on each device, by what takes them, the largest first. certain: those of weights,
    gradients and the optimizer's state."""

    parts: tuple[Part, ...]
    certain: int

    @property
    def total(self) -> int:
        return sum(part.bytes for part in self.parts)


def estimate(setup: Setup) -> Needs:
    """What a run needs on each of its devices, at most."""
    certain = {
        "weights": _weights(setup),
        "gradients": _gradients(setup),
        "optimizer": STATE_BYTES[setup.optimizer] * trained_weights(setup) // setup.gpus,
        "reference model": setup.model.parameters * setup.weights if setup.reference_model else 0,
        "other model": setup.beside,
    }
    if setup.work == "preflight":
        # A pair's step, and the gradients of both responses that it is multiplied with.
        certain["optimizer"] = 0
        certain["steps and gradients"] = 3 * FLOAT32 * setup.model.parameters
    computing = {
        "gathered layers": _gathered(setup),
        "weights in bfloat16": _cast_weights(setup),
        "activations": _activations(setup),
        "logits": _logits(setup),
        "keys and values": _cached(setup),
    }
    parts = [Part(name, size) for name, size in (certain | computing).items() if size]
    parts.sort(key=lambda part: -part.bytes)
    return Needs(tuple(parts), sum(certain.values()))


def trained_weights(setup: Setup) -> int:
    if setup.work != "train":
        return 0
    if setup.lora_rank is None:
        return setup.model.parameters
    adapted = (
        extents
        for name, extents in setup.model.linear.items()
        if setup.target_modules is None or name.endswith(setup.target_modules)
    )
    return setup.lora_rank * sum(rows + columns for rows, columns in adapted)


def _weights(setup: Setup) -> int:
    model = setup.model
    if setup.streamed and model.largest_layer:
        return (model.rest + STREAMED_LAYERS * model.largest_layer) * setup.weights
    adapters = trained_weights(setup) if setup.lora_rank is not None else 0
    return (model.parameters * setup.weights + adapters * FLOAT32) // setup.gpus


def _gradients(setup: Setup) -> int:
    return trained_weights(setup) * FLOAT32 // setup.gpus


def _gathered(setup: Setup) -> int:
    if setup.gpus == 1:
        return 0
    model = setup.model
    return (model.rest + GATHERED_LAYERS * model.largest_layer) * setup.computed


def _cast_weights(setup: Setup) -> int:
    """What autocast keeps of the weights for the backward pass."""
    if setup.work not in ("train", "preflight") or setup.computed >= setup.weights:
        return 0
    if setup.gpus > 1:
        return 0  # gathered as they are computed with
    matrices = sum(math.prod(extents) for extents in setup.model.linear.values())
    return matrices * setup.computed


def _activations(setup: Setup) -> int:
    shape = setup.model.shape
    if shape is None:
        return 0
    tokens = setup.tokens
    mask = mask_bytes(setup)
    if setup.work == "generate":
        # Prompts are read at once: as many tokens as are cached at most.
        return _of_one_layer(shape, setup.computed) * setup.cached_tokens
    if setup.work == "score":
        states = _of_one_layer(shape, setup.computed) * tokens + mask
        if setup.streamed:
            states += WAITING_STATES * tokens * shape.hidden * FLOAT32
        return states
    of_layer = saved_bytes(shape, setup.computed) * tokens
    outside = 3 * shape.hidden * FLOAT32 * tokens
    if setup.gradient_checkpointing:
        inputs = shape.layers * shape.hidden * FLOAT32 * tokens
        return inputs + of_layer + outside + mask
    return shape.layers * of_layer + outside + mask


def mask_bytes(setup: Setup) -> int:
    """Which token sees which: as what is added to scores, and as a truth value."""
    return setup.tokens * setup.longest * (setup.computed + 1)


def saved_bytes(shape: ModelShape, computed: int) -> int:
    """Bytes of a token that one layer keeps for the backward pass."""
    hidden, attended, inner = shape.hidden, shape.attended, shape.inner
    return 4 * hidden * FLOAT32 + (2 * hidden + 5 * attended + 4 * inner) * computed


def _of_one_layer(shape: ModelShape, computed: int) -> int:
    """Bytes of a token at most while one layer is computed without gradient."""
    widest = max(3 * shape.inner, 5 * shape.attended)
    return 3 * shape.hidden * FLOAT32 + (shape.hidden + widest) * computed


def _logits(setup: Setup) -> int:
    shape = setup.model.shape
    if shape is None:
        return 0
    if setup.work == "generate":
        # At the last token of each row: as computed, in float32, sorted, and their probabilities.
        rows = max(1, setup.cached_tokens // max(1, setup.longest))
        return rows * shape.vocabulary * (setup.computed + 3 * FLOAT32)
    if shape.whole_logits:
        sides = 2 if setup.work == "train" else 1
        return sides * setup.tokens * shape.vocabulary * (setup.computed + FLOAT32) // 2
    tiles = TILES * TILE_BYTES.get(setup.device, TILE_BYTES["cuda"])
    every = setup.tokens * shape.vocabulary * FLOAT32
    if setup.work == "score":
        return min(TILES * every, tiles)
    kept = min(every, KEPT_LOGITS.get(setup.device, KEPT_LOGITS["cuda"]))
    gradient = shape.vocabulary * shape.hidden * FLOAT32 if setup.lora_rank is None else 0
    return kept + min(TILES * every, tiles) + gradient


def _cached(setup: Setup) -> int:
    shape = setup.model.shape
    return 0 if shape is None else shape.cache_bytes(setup.cached_tokens, setup.computed)


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change, or some together, by which a run needs less: in words, and as settings of its
    configuration."""

    words: str
    settings: Mapping[str, Any]
    needs: Needs


@dataclass(frozen=True, slots=True)
class _Change:
    words: str
    settings: Mapping[str, Any]
    fields: Mapping[str, Any]
    """Of the setup."""


def remedies(setup: Setup, room: int, known: Collection[str], gpus: int = 1) -> list[Remedy]:
    """What would make a run fit into so many bytes: of single changes those that do, or else of
    two or three together.

    known: the settings that the run's configuration has. gpus: how many there are at most.
    """
    changes = [one for one in _changes(setup, gpus) if set(one.settings) <= set(known)]
    for count in range(1, MOST_CHANGES + 1):
        found = [
            remedy
            for several in combinations(changes, count)
            if (remedy := _together(setup, several)) and remedy.needs.total <= room
        ]
        if found:
            return found
    return []


def _together(setup: Setup, changes: Sequence[_Change]) -> Remedy | None:
    """None where two of them change the same."""
    fields = [name for change in changes for name in change.fields]
    if len(set(fields)) < len(fields):
        return None
    changed = replace(
        setup, **{name: one for change in changes for name, one in change.fields.items()}
    )
    return Remedy(
        " and ".join(change.words for change in changes),
        {name: one for change in changes for name, one in change.settings.items()},
        estimate(changed),
    )


def _changes(setup: Setup, gpus: int) -> list[_Change]:
    found: list[_Change] = []
    training = setup.work == "train"
    if training and not setup.gradient_checkpointing:
        found.append(_switch("gradient checkpointing", "gradient_checkpointing"))
    if training and setup.lora_rank is None and setup.model.linear:
        found.append(_Change("LoRA", {"lora": {}}, {"lora_rank": LORA_RANK}))
    if setup.batch_tokens > setup.longest:
        words = f"batch_tokens of {setup.longest:,}"
        fields = {"batch_tokens": setup.longest}
        if setup.work == "generate":
            found.append(_Change(words, fields, {**fields, "cached_tokens": setup.longest}))
        else:
            found.append(_Change(words, fields, fields))
    if training and setup.lora_rank is None:
        found += [
            _Change(f"{name} as the optimizer", {"optimizer": name}, {"optimizer": name})
            for name in ("rmsprop", "sgd")
            if STATE_BYTES[name] < STATE_BYTES[setup.optimizer]
        ]
    if setup.work in ("score", "generate") and setup.weights == FLOAT32:
        found.append(_Change("bfloat16", {"dtype": "bfloat16"}, {"weights": 2, "computed": 2}))
    if setup.work == "score" and not setup.streamed and setup.model.largest_layer:
        found.append(_Change("reading it layer by layer", {"stream": "always"}, {"streamed": True}))
    if training:
        found += [
            _Change(f"{count} GPUs", {}, {"gpus": count})
            for count in (2, 4, 8)
            if setup.gpus < count <= gpus
        ]
    return found


def _switch(words: str, name: str) -> _Change:
    return _Change(words, {name: True}, {name: True})
