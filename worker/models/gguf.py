"""GGUF files: dequantized to float32 once, kept as a safetensors folder beside the data.

Reading the folder back takes a fraction of a second where dequantizing takes minutes.
"""

import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from app.core.settings import Settings
from chesboard.causal_lm import read_causal_lm
from chesboard.loading import read_tokenizer
from worker.models.files import save_folder
from worker.models.progress import OnPhase, tensors_reported

log = logging.getLogger(__name__)


def dequantized_folder(file: Path, settings: Settings, on_phase: OnPhase) -> Path:
    """The folder of a GGUF file's weights in float32; written first where it is missing.

    Raises:
        ModelError: the file can't be read, or lacks tensors.
        RunStoppedError: `on_phase` raised it; nothing is left behind.
    """
    stat = file.stat()
    folder = settings.data_dir / "cache" / "gguf" / f"{file.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    if not folder.is_dir():
        log.info("dequantizing %s; this happens once", file.name)
        on_phase("dequantizing")
        _convert(file, folder, on_phase)
    return folder


def _convert(file: Path, folder: Path, on_phase: OnPhase) -> None:
    with tensors_reported(on_phase, "dequantizing"):
        quantized = read_causal_lm(file.name, str(file), torch.float32).model
    tokenizer = read_tokenizer(file.name, str(file))
    # transformers refuses to save a model that was loaded from GGUF, so its weights are put into
    # a plain one of the same configuration.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    on_phase("dequantizing")
    save_folder(plain, tokenizer, folder)
