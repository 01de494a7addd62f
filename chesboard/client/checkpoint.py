"""What a trainer's checkpoint keeps of a watched run: chesboard.safetensors in its folder."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from chesboard.pairs import TokenizedPair
from chesboard.probing.probes import ProbeState

FILE = "chesboard.safetensors"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """key: of the run. folder: of its spool, where it was. body: what created the run."""

    key: str
    step: int
    folder: str
    body: dict[str, Any]
    probes: ProbeState | None

    def changed(self, pairs: Sequence[TokenizedPair]) -> str | None:
        """Why these pairs cannot be watched as those of the checkpoint; None: they are the same."""
        before = {
            one["pair"]: (one["preferred_ids"], one["dispreferred_ids"])
            for one in self.body["config"]["probes"]
        }
        now = {one.pair: (one.preferred_ids, one.dispreferred_ids) for one in pairs}
        if now == before:
            return None
        pair = next(one for one in sorted({*before, *now}) if before.get(one) != now.get(one))
        return (
            f"No probe is looked at any more: pair {pair} has other tokens than at the checkpoint "
            f"of step {self.step}, or is not watched any more."
        )


def write(folder: Path, kept: Kept) -> None:
    """Write it into a checkpoint's folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    probes = kept.probes or ProbeState({}, {})
    about = {
        "version": VERSION,
        "key": kept.key,
        "step": kept.step,
        "folder": kept.folder,
        "body": kept.body,
        "described": probes.described if kept.probes is not None else None,
    }
    temporary = folder / f".{FILE}.{os.getpid()}"
    tensors = {name: tensor.contiguous().clone() for name, tensor in probes.tensors.items()}
    save_file(tensors, temporary, {"chesboard": json.dumps(about)})
    temporary.replace(folder / FILE)


def read(path: Path) -> Kept | None:
    """What a checkpoint keeps: `path` is its folder or the file. None where it keeps nothing that
    this version reads."""
    file = path / FILE if path.is_dir() else path
    try:
        with safe_open(file, "pt") as opened:
            about = json.loads((opened.metadata() or {})["chesboard"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if about["version"] != VERSION:
            return None
        described = about["described"]
        return Kept(
            about["key"],
            about["step"],
            about["folder"],
            about["body"],
            None if described is None else ProbeState(tensors, described),
        )
    except (OSError, KeyError, ValueError):
        return None
    except Exception as error:  # safetensors' own, of a file that is cut off
        if type(error).__name__ == "SafetensorError":
            return None
        raise
