"""Adapters from the progress bars of huggingface_hub and transformers to the phase of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers import modeling_gguf_pytorch_utils
from transformers.utils import logging

from chesboard.hub.download import Transfer
from chesboard.reporting import PhaseName


class OnPhase(Protocol):
    """Called at every step of loading a model, from any thread.

    Raises what is to stop the loading: chesboard.reporting.RunStoppedError.
    """

    def __call__(
        self,
        name: PhaseName,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None: ...


def ignore_phase(
    name: PhaseName,
    done: int | None = None,
    total: int | None = None,
    unit: str | None = None,
) -> None:
    """An OnPhase for callers that show nothing and never stop."""


def download_bar(transfer: Transfer) -> type[tqdm]:
    """A tqdm class for `snapshot_download` that counts bytes in `transfer` and draws nothing.

    The hub opens one bar for bytes received and one for bytes written to disk (which also counts
    what an earlier download left), and a third for files. The larger of the first two counts.
    """

    class DownloadBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            self._bytes = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if self._counts_bytes:
                with self.get_lock():  # one for all bars
                    self._bytes += int(n or 0)
                    transfer.bytes = max(transfer.bytes, self._bytes)
                transfer.check()

    return DownloadBar


@contextmanager
def tensors_reported(on_phase: OnPhase, name: PhaseName) -> Iterator[None]:
    """While transformers loads or dequantizes weights here, report each tensor.

    Not for two threads at a time: transformers' hook for its progress bars is global.
    """

    class TensorBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def __iter__(self) -> Iterator[Any]:
            tensors = list(self.iterable)
            for done, tensor in enumerate(tensors):
                on_phase(name, done, len(tensors), "tensors")
                yield tensor
            on_phase(name, len(tensors), len(tensors), "tensors")

    former_hook = logging.set_tqdm_hook(lambda _, args, kwargs: TensorBar(*args, **kwargs))
    # The loop over the tensors of a GGUF architecture that is not loaded lazily has a bar of its
    # own, which that hook does not reach.
    former_bar, modeling_gguf_pytorch_utils.tqdm = modeling_gguf_pytorch_utils.tqdm, TensorBar
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = former_bar
        logging.set_tqdm_hook(former_hook)
