"""What the processor can do, as torch knows it."""

from collections.abc import Mapping
from typing import Any

import torch


def capabilities() -> Mapping[str, Any]:
    """What `torch.cpu.get_capabilities` tells: instructions by their names, and the processor's.

    Older torches lack it, and are asked for the instructions for bfloat16 alone. Without the others
    products stay MKL's.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found: Mapping[str, Any] = torch.cpu.get_capabilities()
        return found
    return {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
    }
