"""Likelihood displacement in preference training: score preference pairs under a language model.

The public API. Its names are loaded on first use (PEP 562), so that `import chesboard` imports no
torch. `docs/library.md` has a worked example.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chesboard.api import open_streamed, score
    from chesboard.client.callback import Callback
    from chesboard.client.stored import stored
    from chesboard.client.watch import Watch, watch
    from chesboard.measures.ches import (
        ches,
        last_hidden_inner_product,
        length_normalized_ches,
    )
    from chesboard.pairs import Pair
    from chesboard.records import ScoreRecord

__all__ = [
    "Callback",
    "Pair",
    "ScoreRecord",
    "Watch",
    "ches",
    "last_hidden_inner_product",
    "length_normalized_ches",
    "open_streamed",
    "score",
    "stored",
    "watch",
]

_MODULES = {
    "Callback": "chesboard.client.callback",
    "Pair": "chesboard.pairs",
    "ScoreRecord": "chesboard.records",
    "ches": "chesboard.measures.ches",
    "last_hidden_inner_product": "chesboard.measures.ches",
    "length_normalized_ches": "chesboard.measures.ches",
    "open_streamed": "chesboard.api",
    "score": "chesboard.api",
    "stored": "chesboard.client.stored",
    "Watch": "chesboard.client.watch",
    "watch": "chesboard.client.watch",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
