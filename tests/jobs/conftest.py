"""What tests of runs in one process share: a worker's models, with the tiny one in their folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import get_settings
from tests.jobs.several_workers import models_one_at_a_time, small_shards_and_short_leases
from worker.models.cache import ModelCache

__all__ = ["models_one_at_a_time", "small_shards_and_short_leases"]


@pytest.fixture
def models(database: Any, tiny_model_dir: Path, models_dir: Path) -> ModelCache:
    """models_dir is a folder of the test's own: it may add models, or take the tiny one away."""
    shutil.copytree(tiny_model_dir, models_dir / "tiny")
    return ModelCache(get_settings())
