"""Forward passes through a model of which one layer at a time is in memory.

Many forward passes go through the layers together: each stops before every layer, the layer's
weights are read, all passes go through it, and it is dropped. So each layer is read once for all of
them, where one pass after the other would read it once for each. The passes are functions as they
are: each runs on a stack of its own (a greenlet), and is left and entered again in a hook that
runs before the layer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from chesboard.causal_lm import refuse_if_damaged
from chesboard.forward.deferred import Deferred, read
from chesboard.forward.rope import length_dependent_rope

Result = TypeVar("Result")
_ATTRIBUTE = "layer_stream"
CHECK_SECONDS = 0.25
"""Between two looks, while a layer is read, at whether to stop."""


class Observer(NamedTuple):
    """What is called while passes go through the layers together. Both may raise, which ends all
    passes."""

    before_layer: Callable[[int], None]
    """Called with the index of every layer before it is read."""
    check: Callable[[], None]
    """Called between two passes' turns, and while a layer is read."""


_NOBODY = Observer(lambda _: None, lambda: None)


class LayerStream:
    """The layers of a model whose weights are read when a forward pass comes to them.

    A single forward pass reads every layer once; so do many that are run by `together`. While one
    layer is in memory, the next one is read. Not thread-safe.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[tuple[str, nn.Module]],
        weights: Sequence[dict[str, Deferred]],
        device: torch.device,
    ) -> None:
        """layers: names and modules, in the order in which the model calls them; their tensors are
        meta tensors. weights: of each layer, name of a tensor in it → its weights."""
        self.layers = layers
        self.device = device
        self.reads = 0
        """How often a layer was read."""
        self._weights = weights
        self._rope = length_dependent_rope(model)
        self._held: int | None = None
        self._ahead: tuple[int, Future[dict[str, Tensor]]] | None = None
        self._checked: set[int] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-layer")
        self._hub: Any = None
        self._observer = _NOBODY
        for index, (_, layer) in enumerate(layers):
            layer.register_forward_pre_hook(partial(self._before_layer, index))
        setattr(model, _ATTRIBUTE, self)

    @property
    def largest_layer_bytes(self) -> int:
        return max(sum(one.nbytes for one in layer.values()) for layer in self._weights)

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """What goes through the layers by `together` meanwhile is observed."""
        before, self._observer = self._observer, observer
        try:
            yield
        finally:
            self._observer = before

    def together(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """What the calls return, each of which may run forward passes, without gradient.

        Raises:
            What a call raises, or the observer: the calls then end where they stand, with `finally`
            of theirs.
        """
        # Imported where it is used: models that fit do without it.
        from greenlet import getcurrent, greenlet

        assert self._hub is None, "a call of `together` may not call it again"
        results: dict[int, Result] = {}

        def keep(number: int, call: Callable[[], Result]) -> None:
            results[number] = call()

        tasks = [greenlet(partial(keep, number, call)) for number, call in enumerate(calls)]
        waiting: dict[int, list[Any]] = defaultdict(list)

        def resume(task: Any) -> None:
            self._observer.check()
            try:
                index = task.switch()
            finally:
                outside.restore()
            if not task.dead:
                waiting[index].append(task)

        self._hub = getcurrent()
        with torch.no_grad():
            outside = _ThreadState.now(self)
            try:
                for task in tasks:
                    task.gr_context = copy_context()
                    resume(task)
                while waiting:
                    # The nearest one onwards; some calls take several passes over the layers.
                    held = -1 if self._held is None else self._held
                    index = min(waiting, key=lambda one: (one < held, one))
                    self._observer.before_layer(index)
                    self.hold(index)
                    for task in waiting.pop(index):
                        resume(task)
            finally:
                for task in tasks:
                    if not task.dead:
                        task.throw()  # ends it where it waits
                        outside.restore()
                self._hub = None
        return [results[number] for number in range(len(calls))]

    def _before_layer(self, index: int, *_: object) -> None:
        """The hook before a layer: waits until it is held."""
        if self._hub is None:
            self.hold(index)
            return
        state = _ThreadState.now(self)
        try:
            self._hub.switch(index)
        finally:
            state.restore()

    def hold(self, index: int) -> None:
        """Have the weights of this layer on the device, and those of no other.

        Raises:
            ModelError: a weight is NaN or infinite; the message names the tensor.
        """
        if index != self._held:
            weights = self._take(index)
            self.drop()
            _, layer = self.layers[index]
            # By its present dtypes: what widens weights may have done so since they were read.
            wanted = layer.state_dict()
            placed = {
                name: weight.to(self.device, wanted[name].dtype) for name, weight in weights.items()
            }
            layer.load_state_dict(placed, assign=True, strict=False)
            self._held = index
            self.reads += 1
        if index + 1 < len(self.layers) and self._ahead is None:
            self._ahead = index + 1, self._thread.submit(self._read, index + 1)

    def drop(self) -> None:
        """Free the weights of the layer that is held."""
        if self._held is None:
            return
        _, layer = self.layers[self._held]
        names = self._weights[self._held]
        held = {name: one for name, one in layer.state_dict().items() if name in names}
        empty = {name: torch.empty_like(one, device="meta") for name, one in held.items()}
        layer.load_state_dict(empty, assign=True, strict=False)
        torch.clear_autocast_cache()
        self._held = None

    def _take(self, index: int) -> dict[str, Tensor]:
        """The weights of a layer on the CPU: read ahead, or now."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            weights = self._waited_for(ahead[1])
            if ahead[0] == index:
                return weights
        return self._waited_for(self._thread.submit(self._read, index))

    def _waited_for(self, reading: "Future[dict[str, Tensor]]") -> dict[str, Tensor]:
        while not wait([reading], CHECK_SECONDS).done:
            if self._hub is not None:
                self._observer.check()
        return reading.result()

    def _read(self, index: int) -> dict[str, Tensor]:
        prefix, _ = self.layers[index]
        names = list(self._weights[index])
        tensors = dict(zip(names, read([self._weights[index][n] for n in names]), strict=True))
        if index not in self._checked:
            refuse_if_damaged((f"{prefix}.{name}", tensor) for name, tensor in tensors.items())
            self._checked.add(index)
        return tensors


def stream_of(model: nn.Module) -> LayerStream | None:
    """None where the model is in memory as a whole."""
    return getattr(model, _ATTRIBUTE, None)


def run_together(model: nn.Module, calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """What the calls return; those of a streamed model go through its layers together."""
    stream = stream_of(model)
    return [call() for call in calls] if stream is None else stream.together(calls)


@dataclass(frozen=True, slots=True)
class _ThreadState:
    """What PyTorch and this library keep for a thread, or in a model, while a forward pass runs:
    passes that take turns would otherwise compute under each other's."""

    device: str
    grad: bool
    autocast: bool
    autocast_dtype: torch.dtype
    rope_forwards: tuple[tuple[Any, Any], ...]
    """Of each rotary embedding that depends on the length of the text: what stands in for its
    forward pass just now (`LengthDependentRope.of`)."""

    @classmethod
    def now(cls, stream: LayerStream) -> "_ThreadState":
        device = stream.device.type
        modules = stream._rope.modules if stream._rope is not None else ()
        return cls(
            device,
            torch.is_grad_enabled(),
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
            tuple((module, vars(module).get("forward")) for module in modules),
        )

    def restore(self) -> None:
        torch.set_grad_enabled(self.grad)
        torch.set_autocast_enabled(self.device, self.autocast)
        torch.set_autocast_dtype(self.device, self.autocast_dtype)
        for module, forward in self.rope_forwards:
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward
