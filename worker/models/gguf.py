"""GGUF files: dequantized to float32 once, kept as a safetensors folder beside the data.

Reading the folder back takes a fraction of a second where dequantizing takes minutes.
"""

import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.core.settings import Settings
from chesboard.loading import ModelError
from chesboard.reporting import RunStoppedError
from worker.models.files import save_folder
from worker.models.progress import OnPhase, tensors_reported

log = logging.getLogger(__name__)


def dequantized_folder(file: Path, settings: Settings, on_phase: OnPhase) -> Path:
    """The folder of a GGUF file's weights in float32; written first where it is missing.

    Raises:
        ModelError: the file can't be read.
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
    try:
        with tensors_reported(on_phase, "dequantizing"):
            quantized = AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float32
            )
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except RunStoppedError:
        raise
    except Exception as error:
        raise ModelError(f"{file.name} can't be read as a GGUF model: {error}") from error
    # transformers refuses to save a model that was loaded from GGUF, so its weights are put into
    # a plain one of the same configuration.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    on_phase("dequantizing")
    save_folder(plain, tokenizer, folder)
