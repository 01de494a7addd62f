"""The starter model, the same for both sides."""

from app.core.settings import Settings
from app.local.pull import STARTER_MODEL, pull
from chesboard.configs import ModelConfig, ScoreConfig
from chesboard.model import LoadedModel
from tests.support import kept_models_folder
from worker.models.cache import ModelCache


def starter_model(config: ModelConfig | None = None) -> LoadedModel:
    """In float32 on the CPU, for a run of this configuration; brought where it is not there yet."""
    folder = kept_models_folder()
    pull(STARTER_MODEL, folder)
    settings = Settings(models_dir=folder)
    return ModelCache(settings).load(config or ScoreConfig(device="cpu"))


def starter_folder() -> str:
    """As safetensors, which any other program opens too."""
    name: str = starter_model().model.config._name_or_path
    return name
