"""What runs that only look at the tokens read of a model: its tokenizer and its vocabulary, and no
weights.
"""

from typing import Any

from transformers import AutoConfig

from app.core.settings import Settings
from chesboard.configs import ModelConfig
from chesboard.loading import read_tokenizer
from worker.models.files import find_source


def load_tokenizer(config: ModelConfig, settings: Settings) -> Any:
    """The tokenizer of a run's model. Of a GGUF file only the header is read.

    Raises:
        ModelError: unknown model, or its tokenizer cannot be read.
    """
    source = find_source(config.model, settings)
    revision = config.revision if source.path is None else None
    return read_tokenizer(config.model, source.location, source.adapter, revision)


def count_embeddings(config: ModelConfig, settings: Settings) -> int | None:
    """How many tokens the model has embeddings of, as its configuration says. None where that is
    not certain: an adapter may bring others, and a GGUF file has no configuration."""
    source = find_source(config.model, settings)
    if source.is_gguf or source.adapter is not None:
        return None
    revision = config.revision if source.path is None else None
    try:
        found = AutoConfig.from_pretrained(
            source.location, revision=revision or "main", trust_remote_code=False
        )
    except Exception:  # the run that loads the model says what is wrong with it
        return None
    rows = getattr(found.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None
