"""GGUF files: dequantized to float32 once, kept as a safetensors folder beside the data.

Reading the folder back takes a fraction of a second where dequantizing takes minutes.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from app.core.settings import Settings
from chesboard.capacity.shape import ModelSize
from chesboard.causal_lm import ModelError, read_causal_lm
from chesboard.loading import read_tokenizer
from chesboard.memory import free_bytes
from worker.models.files import save_folder
from worker.models.progress import OnPhase, tensors_reported

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""Between two looks at whether another worker has dequantized the file."""


def dequantized_folder(file: Path, settings: Settings, on_phase: OnPhase) -> Path:
    """The folder of a GGUF file's weights in float32; written first where it is missing, by one
    worker at a time.

    Raises:
        ModelError: the file can't be read, lacks tensors, or is too large for the memory or the
            disk of this machine.
        RunStoppedError: `on_phase` raised it; nothing is left behind.
    """
    stat = file.stat()
    folder = settings.data_dir / "cache" / "gguf" / f"{file.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    if not folder.is_dir():
        on_phase("dequantizing")
        with _alone(folder, on_phase):
            if not folder.is_dir():
                log.info("dequantizing %s; this happens once", file.name)
                _refuse_if_too_large(file, folder.parent)
                _convert(file, folder, on_phase)
    return folder


@contextmanager
def _alone(folder: Path, on_phase: OnPhase) -> Iterator[None]:
    """Wait until no other worker writes the folder. A lock ends with its worker."""
    lock = folder.with_name(f".{folder.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as opened:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_phase("dequantizing")
                time.sleep(WAIT_SECONDS)
        yield


def _refuse_if_too_large(file: Path, folder: Path) -> None:
    """By the header of the file; where that cannot be read, reading the file says why."""
    size = ModelSize.at(file)
    if size is None:
        return
    needed = size.parameters * torch.float32.itemsize
    about = (
        f"The model “{file.name}” has {size.parameters / 1e6:,.0f} million parameters, which are "
        f"dequantized to float32 once ({needed / 2**30:.1f} GiB), but"
    )
    if needed > (free := free_bytes(torch.device("cpu"))):
        raise ModelError(
            f"{about} this worker has {free / 2**30:.1f} GiB of main memory free. Choose a smaller "
            "model, or take it as safetensors, of which layers can be read one by one."
        )
    if needed > (free := shutil.disk_usage(folder).free):
        raise ModelError(
            f"{about} the disk that holds {folder} has {free / 2**30:.1f} GiB free. Make room "
            "there, or take the model as safetensors."
        )


def _convert(file: Path, folder: Path, on_phase: OnPhase) -> None:
    with tensors_reported(on_phase, "dequantizing"):
        quantized = read_causal_lm(file.name, str(file), torch.float32).model
    tokenizer = read_tokenizer(file.name, str(file))
    # transformers refuses to save a model that was loaded from GGUF, so its weights are put into
    # a plain one of the same configuration.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):  # without weights of its own
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict(), assign=True)
    plain.tie_weights()
    on_phase("dequantizing")
    save_folder(plain, tokenizer, folder)
