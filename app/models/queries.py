"""Listing models: those in the models folder, and the results of training runs."""

import re
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.core.settings import get_settings
from app.models.schemas import ModelOut
from app.store.lookup import there_is_no
from app.store.runs import Run

MODEL_FIELD = "config.model"
EMPTY_FOLDER = "The models folder is empty: `chesboard models pull` downloads the starter model."
RESULT_FOLDER = "model"
"""The folder of a training run's result, inside the run's folder."""

# "org/name" as on the Hugging Face hub. Neither part can be a path ("..", "/etc").
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def list_models(session: Session) -> list[ModelOut]:
    """The models folder's by name, then the results of training runs, newest first."""
    return _local_models() + _run_results(session)


def check_model_exists(session: Session, name: str) -> None:
    """Check that a run may name this model. A hub name always passes; the worker looks it up.

    Raises:
        InvalidInputError: there is no such model; the message lists those that exist.
    """
    known = [model.name for model in list_models(session)]
    if name in known or _HUB_NAME.fullmatch(name):
        return
    available = f"There are: {', '.join(known)}." if known else EMPTY_FOLDER
    message = f"{there_is_no('model', repr(name))} {available}"
    raise InvalidInputError(message, [{"field": MODEL_FIELD, "message": message}])


def _local_models() -> list[ModelOut]:
    folder = get_settings().models_path
    if not folder.is_dir():
        return []
    # Links that lead out of the folder are not listed: the worker refuses to open them.
    root = folder.resolve()
    found = (
        _local_model(path)
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and path.resolve().is_relative_to(root)
    )
    return [model for model in found if model is not None]


def _local_model(path: Path) -> ModelOut | None:
    """The model at a path, or None if there is none."""
    if path.is_file() and path.suffix == ".gguf":
        return ModelOut(
            name=path.name, kind="gguf", label=f"{path.stem} (GGUF)", bytes=path.stat().st_size
        )
    if not path.is_dir():
        return None
    weights = sorted(path.glob("*.safetensors"))
    if weights and (path / "config.json").is_file():
        return ModelOut(name=path.name, kind="folder", label=path.name, bytes=_bytes(weights))
    if files := sorted(path.glob("*.gguf")):
        # The worker loads the first one.
        return ModelOut(
            name=path.name, kind="gguf", label=f"{path.name} (GGUF)", bytes=_bytes(files[:1])
        )
    return None


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _run_results(session: Session) -> list[ModelOut]:
    runs = session.execute(
        select(Run.id, Run.name)
        .where(Run.kind == "train", Run.status == "succeeded")
        .order_by(Run.id.desc())
    )
    return [
        ModelOut(
            name=f"run:{run.id}",
            kind="run",
            label=f"Result of run {run.id}: {run.name}",
            bytes=_bytes(sorted(folder.glob("*.safetensors"))),
        )
        for run in runs
        if (folder := get_settings().run_path(run.id) / RESULT_FOLDER).is_dir()
    ]
