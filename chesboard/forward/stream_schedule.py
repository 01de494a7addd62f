"""Which batches go through the layers of a streamed model together: as many as memory holds; and
how far they are."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chesboard.capacity.estimate import WAITING_STATES
from chesboard.capacity.shape import ModelShape
from chesboard.forward.batching import Schedule
from chesboard.forward.layer_stream import LayerStream, Observer, stream_of
from chesboard.forward.states import PairForward
from chesboard.memory import free_bytes
from chesboard.model import LoadedModel, causal_model
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control, PhaseName, Reporter

FREE_SHARE = 1 / 2
"""Share of the free memory that waiting batches may take; the rest is for what a batch computes in
a layer, and for the next layer's weights."""


def schedule_for(
    loaded: LoadedModel, forward: PairForward, reporter: Reporter, control: Control
) -> Schedule | None:
    """None where the model is in memory as a whole: its batches are computed one by one."""
    stream = stream_of(causal_model(loaded))
    if stream is None:
        return None
    return StreamSchedule(loaded, stream, forward, reporter, control)


@contextmanager
def layers_reported(
    loaded: LoadedModel, phase: PhaseName, reporter: Reporter, control: Control
) -> Iterator[None]:
    """Forward passes of a streamed model that go through its layers together meanwhile tell how far
    they are, and end where the run must stop."""
    stream = stream_of(causal_model(loaded))
    if stream is None:
        yield
        return
    layers = len(stream.layers)
    observer = Observer(lambda index: reporter.phase(phase, index, layers, "layers"), control.check)
    with stream.observed(observer):
        yield


class StreamSchedule:
    """As many batches at a time as memory holds between two layers; each group of batches reads
    every layer once, or once more for each prefill of theirs.

    The layers that went by are reported as progress, of all that are to be read for all groups."""

    def __init__(
        self,
        loaded: LoadedModel,
        stream: LayerStream,
        forward: PairForward,
        reporter: Reporter,
        control: Control,
    ) -> None:
        self._stream = stream
        self._forward = forward
        self._reporter = reporter
        self._control = control
        model = causal_model(loaded)
        self._shape = ModelShape.of(model.config.to_dict())
        # The stream between the layers has the dtype of the embeddings.
        self._itemsize: int = model.get_input_embeddings().weight.itemsize
        self._most: int | None = None
        self._taken = 0
        self._groups_left = 0
        self._passes = 1
        """Of the present group over the layers, as far as is known beforehand."""
        self._begun = 0
        """Passes of the present group that have begun."""
        self._layers_done = 0
        self._layers_in_group = 0

    def take(self, waiting: deque[list[TokenizedPair]]) -> list[list[TokenizedPair]]:
        self._stream.drop()
        room = FREE_SHARE * (free_bytes(self._stream.device) - self._stream.largest_layer_bytes)
        taken = [waiting.popleft()]
        room -= self._waiting_bytes(taken[0])
        while waiting and len(taken) != self._most:
            room -= self._waiting_bytes(waiting[0])
            if room < 0:
                break
            taken.append(waiting.popleft())
        self._taken = len(taken)
        self._groups_left = math.ceil(len(waiting) / len(taken))
        self._passes = 2 if any(map(self._forward.prefilled_tokens, taken)) else 1
        return taken

    def _waiting_bytes(self, batch: Sequence[TokenizedPair]) -> int:
        """What a batch keeps in memory while it waits for a layer."""
        width = max(map(self._forward.row_tokens, batch))
        tokens = width * len(batch)
        if self._shape is None:
            return tokens * width * self._itemsize
        states = WAITING_STATES * tokens * self._shape.hidden * self._itemsize
        mask = tokens * width * self._itemsize
        cached = self._forward.prefilled_tokens(batch)
        return states + mask + self._shape.cache_bytes(cached, self._itemsize)

    def run(self, calls: Sequence[Callable[[], None]]) -> None:
        self._layers_in_group = self._begun = 0
        try:
            with self._stream.observed(Observer(self._before_layer, self._control.check)):
                self._stream.together(calls)
        finally:
            self._stream.drop()
            self._layers_done += self._layers_in_group
        self._report(self._layers_done, self._of_groups(self._groups_left))

    def _before_layer(self, index: int) -> None:
        self._begun += index == 0
        self._passes = max(self._passes, self._begun)
        left = self._of_groups(1 + self._groups_left) - self._layers_in_group
        self._report(self._layers_done + self._layers_in_group, max(1, left))
        self._layers_in_group += 1

    def _of_groups(self, groups: int) -> int:
        """The layers that so many groups read, if they are as the present one."""
        return groups * self._passes * len(self._stream.layers)

    def _report(self, done: int, left: int) -> None:
        self._reporter.phase("scoring", done, done + left, "layers")

    def take_fewer(self) -> None:
        self._most = max(1, self._taken // 2)
