"""What runs that only look at the tokens read of a model: its tokenizer and its vocabulary, and no
weights.
"""

from dataclasses import replace
from typing import Any

from transformers import AutoConfig

from app.core.settings import Settings
from chesboard.configs import ModelConfig
from chesboard.loading import read_tokenizer
from chesboard.model_files.inspection import has_tokenizer
from worker.models import hub
from worker.models.files import Source, find_source
from worker.models.progress import OnPhase, ignore_phase


def source_without_weights(
    config: ModelConfig, settings: Settings, on_phase: OnPhase = ignore_phase
) -> Source:
    """Where a run's model is; of a hub model all but its weights is downloaded.

    Raises:
        ModelError: unknown model, or it cannot be downloaded.
        RunStoppedError: `on_phase` raised it.
    """
    source = find_source(config.model, settings)
    if source.path is not None or (source.adapter is not None and has_tokenizer(source.adapter)):
        return source
    folder = hub.download_small_files(source.location, config.revision, on_phase)
    return replace(source, location=folder)


def load_tokenizer(config: ModelConfig, source: Source) -> Any:
    """The tokenizer of a run's model. Of a GGUF file only the header is read.

    Raises:
        ModelError: it cannot be read.
    """
    return read_tokenizer(config.model, source.location, source.adapter)


def count_embeddings(source: Source) -> int | None:
    """How many tokens the model has embeddings of, as its configuration says. None where that is
    not certain: an adapter may bring others, and a GGUF file has no configuration."""
    if source.is_gguf or source.adapter is not None:
        return None
    try:
        found = AutoConfig.from_pretrained(source.location, trust_remote_code=False)
    except Exception:  # the run that loads the model says what is wrong with it
        return None
    rows = getattr(found.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None
