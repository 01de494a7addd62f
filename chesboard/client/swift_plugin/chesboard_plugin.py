"""Registers the callback `chesboard` with ms-swift: `--external_plugins` of `python -m
chesboard.swift`, then `--callbacks chesboard`."""

from typing import Any

from swift.callbacks import callbacks_map

from chesboard.client.callback import Callback


class SwiftCallback(Callback):
    """The callback, made as ms-swift makes them; its settings come from the environment."""

    def __init__(self, args: Any = None, trainer: Any = None) -> None:
        super().__init__()


callbacks_map["chesboard"] = SwiftCallback
