"""Weights of files that are read when they are needed, as transformers would have loaded them.

transformers renames, casts, stacks and splits the tensors of files by rules of each architecture.
Given deferred tensors in their place it does so to descriptions without numbers (meta tensors);
each operation is recorded, and done to the numbers when a weight is read. So nothing here knows an
architecture.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils._pytree import tree_map

from chesboard.model_files.inspection import weight_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Names of dtypes in the headers of safetensors files."""


@dataclass(frozen=True, slots=True)
class _InFile:
    file: Path
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Operation:
    """What gave a tensor: an operator of PyTorch and its arguments, deferred tensors among them."""

    operator: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]


class Deferred(torch.Tensor):
    """A tensor with shape and dtype whose numbers are in a file."""

    meta: Tensor
    origin: _InFile | _Operation
    output: int
    """Which one of its operation's results it is."""

    @staticmethod
    def __new__(cls, meta: Tensor, origin: _InFile | _Operation, output: int = 0) -> "Deferred":
        made: Deferred = torch.Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=torch.device("meta"),
        )
        made.meta, made.origin, made.output = meta, origin, output
        return made

    def __init__(self, *_: Any) -> None: ...

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares it as a function
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        # Numbers are read on the CPU, whatever device transformers moves its tensors to.
        on_meta = named | ({"device": torch.device("meta")} if "device" in named else {})
        named.pop("device", None)
        results = func(*tree_map(_meta_of, args), **tree_map(_meta_of, on_meta))
        operation = _Operation(func, args, named)
        if isinstance(results, Tensor):
            return Deferred(results, operation)
        if isinstance(results, list | tuple):
            return type(results)(Deferred(one, operation, i) for i, one in enumerate(results))
        return results


def _meta_of(value: Any) -> Any:
    return value.meta if isinstance(value, Deferred) else value


def deferred_tensors(folder: Path) -> dict[str, Deferred]:
    """Every tensor in the safetensors files of a model's folder, by name; only headers are read.

    Raises:
        FaultyFileError: the index is damaged, or a file is missing.
        ValueError: a tensor is of an unknown dtype; the message names it.
    """
    found = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict, it has no iterator
                described = opened.get_slice(name)
                dtype = DTYPES.get(described.get_dtype())
                if dtype is None:
                    raise ValueError(
                        f"the tensor {name} of {file.name} is of the dtype "
                        f"{described.get_dtype()}, which cannot be read layer by layer"
                    )
                meta = torch.empty(described.get_shape(), dtype=dtype, device="meta")
                found[name] = Deferred(meta, _InFile(file, name))
    return found


@torch.no_grad()
def read(tensors: Sequence[Deferred]) -> list[Tensor]:
    """The numbers of deferred tensors, in memory of their own on the CPU."""
    with ExitStack() as files:
        return _Reader(files).read(tensors)


class _Reader:
    """Reads each tensor of a file once, however many weights are made of it."""

    def __init__(self, files: ExitStack) -> None:
        self._files = files
        self._opened: dict[Path, Any] = {}
        self._results: dict[Any, Any] = {}

    def read(self, tensors: Sequence[Deferred]) -> list[Tensor]:
        return [self._read(tensor) for tensor in tensors]

    def _read(self, tensor: Deferred) -> Tensor:
        origin = tensor.origin
        if origin not in self._results:
            self._results[origin] = (
                self._of_file(origin) if isinstance(origin, _InFile) else self._done(origin)
            )
        found = self._results[origin]
        result: Tensor = found[tensor.output] if isinstance(found, list | tuple) else found
        return result

    def _of_file(self, origin: _InFile) -> Tensor:
        if origin.file not in self._opened:
            opened = safe_open(origin.file, framework="pt")
            self._opened[origin.file] = self._files.enter_context(opened)
        # safetensors maps the file into memory; a copy is read now, and stays when that is closed.
        mapped: Tensor = self._opened[origin.file].get_tensor(origin.name)
        return mapped.clone()

    def _done(self, origin: _Operation) -> Any:
        arguments = tree_map(self._numbers_of, origin.arguments)
        return origin.operator(*arguments, **tree_map(self._numbers_of, origin.named))

    def _numbers_of(self, value: Any) -> Any:
        return self._read(value) if isinstance(value, Deferred) else value
