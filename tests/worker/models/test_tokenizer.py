"""A tokenizer without its model: from a folder or an earlier run, or in words why not."""

from pathlib import Path
from typing import Any

import pytest

from app.core.settings import Settings
from chesboard.configs import CheckConfig
from chesboard.loading import ModelError
from tests.model_folders import write_adapter, write_model
from tests.tiny_models import build_tokenizer
from worker.models.files import find_source
from worker.models.tokenizer import count_embeddings, load_tokenizer, source_without_weights


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A models folder with one model, 'tiny', whose files hold no weights."""
    folder = write_model(tmp_path / "models" / "tiny", vocab_size=271)
    (folder / "tokenizer.json").unlink()
    build_tokenizer(chat=True).save_pretrained(folder)
    return Settings(data_dir=tmp_path, models_dir=tmp_path / "models")


def tokenizer_of(model: str, settings: Settings) -> Any:
    config = CheckConfig(model=model)
    return load_tokenizer(config, source_without_weights(config, settings))


def test_of_a_folder_without_reading_its_weights(settings: Settings) -> None:
    tokenizer = tokenizer_of("tiny", settings)
    assert tokenizer("Yes").input_ids == build_tokenizer(chat=True)("Yes").input_ids
    assert "<|im_start|>" in tokenizer.chat_template


def test_of_an_earlier_run(settings: Settings) -> None:
    build_tokenizer(chat=False).save_pretrained(settings.run_path(7) / "model")
    assert tokenizer_of("run:7", settings).chat_template is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "There is no model “nowhere”"),
        ("../elsewhere", "outside the models folder"),
        ("run:99", "has left no model"),
        ("no-such/hub-model", "The model “no-such/hub-model” is not on this worker"),
    ],
)
def test_of_a_model_that_is_not_there(settings: Settings, name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        tokenizer_of(name, settings)


def test_of_a_folder_without_one(settings: Settings) -> None:
    for file in (settings.models_path / "tiny").glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match="The folder has no tokenizer"):
        tokenizer_of("tiny", settings)


def test_the_vocabulary_is_that_of_the_configuration(settings: Settings) -> None:
    assert count_embeddings(find_source("tiny", settings)) == 271


def test_the_vocabulary_below_an_adapter_is_not_certain(settings: Settings) -> None:
    write_adapter(settings.models_path / "adapter", "tiny")
    assert count_embeddings(find_source("adapter", settings)) is None
