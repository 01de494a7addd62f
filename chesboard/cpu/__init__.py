"""Optional speed-ups on a CPU: oneDNN products, blockwise attention, precision; one `install`.

The rest of the library does not import this package. What it installs is found in the model: in the
classes of its linear layers and in its attention implementation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from chesboard.cpu import attention, onednn, precision


def install(
    model: Any,
    *,
    compute_dtype: torch.dtype | None = None,
    blockwise_attention: bool = True,
    before_widening: Callable[[], None] | None = None,
) -> None:
    """Let a model on a CPU compute faster; a model on another device is left as it is.

    Idempotent: a second call with other arguments sets what they say. Values stay within rounding
    of what they were.

    model: a transformers CausalLM, or a PeftModel around one.
    compute_dtype: adapt the precision of a model with bfloat16 weights to this dtype
        (`precision.adapt`), which `uninstall` does not undo; None leaves the precision as it is.
    blockwise_attention: attend without gradient by `chesboard.cpu.attention`, where the model
        attends by SDPA. Leave it off for training: the reference, the losses and the probes then
        all go through SDPA, so that the same weights give the same log-probabilities to the last
        bit.
    before_widening: called before all weights become float32, which doubles their memory; it may
        raise to prevent that.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    onednn.install(model)
    if compute_dtype is not None:
        precision.adapt(model, compute_dtype, before_widening)
    if blockwise_attention:
        attention.install(model)
    else:
        attention.uninstall(model)


def uninstall(model: Any) -> None:
    """Undo `install`, apart from the precision.

    Not for a model that was adapted to float32 computation with bfloat16 weights: its linear layers
    need what was installed.
    """
    onednn.uninstall(model)
    attention.uninstall(model)


@contextmanager
def installed(model: Any, *, blockwise_attention: bool = True) -> Iterator[None]:
    """`install` for the length of a with statement, without changing the precision.

    What was installed before stays installed afterwards.
    """
    had_products, had_attention = onednn.is_installed(model), attention.is_installed(model)
    install(model, blockwise_attention=blockwise_attention)
    try:
        yield
    finally:
        if not had_products:
            onednn.uninstall(model)
        if not had_attention:
            attention.uninstall(model)
        elif not blockwise_attention:
            attention.install(model)
