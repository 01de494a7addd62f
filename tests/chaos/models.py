"""The models that runs name: a tiny one, one that never ends, and one that takes long to load."""

import json
import shutil
from pathlib import Path

from tests.gguf_files import write_llama
from tests.support import CHAT_TEMPLATE, ENDLESS_TEMPLATE, save_tiny_model, tiny_tokenizer

TINY = "tiny"
WEDGED = "wedged"
"""Its chat template never ends."""
LARGE = "large.gguf"
"""Takes seconds to dequantize."""


def save_models(folder: Path) -> None:
    save_tiny_model(folder / TINY)
    shutil.copytree(folder / TINY, folder / WEDGED)
    (folder / WEDGED / "chat_template.jinja").write_text(ENDLESS_TEMPLATE)
    tokenizer = tiny_tokenizer()
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    write_llama(
        folder / LARGE,
        tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        [" ".join(merge) for merge in merges],
        ends=(tokenizer.pad_token_id, tokenizer.eos_token_id),
        width=128,
        heads=4,
        layers=32,
        chat_template=CHAT_TEMPLATE,
    )
