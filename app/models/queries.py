"""Listing models: those in the models folder, and the results of training runs."""

from pathlib import Path
from typing import NoReturn

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import InvalidInputError
from app.core.settings import get_settings
from app.models.folder import within_time
from app.models.schemas import ModelOut
from app.store.lookup import there_is_no
from app.store.runs import Run
from chesboard.model_files.folder import HUB_NAME, FoundModel, find_model
from chesboard.model_files.folder import list_models as list_folder

MODEL_FIELD = "config.model"
EMPTY_FOLDER = "The models folder is empty: `chesboard models pull` downloads the starter model."
RESULT_FOLDER = "model"
"""The folder of a training run's result, inside the run's folder."""


def list_models(session: Session) -> list[ModelOut]:
    """The models folder's by name, then the results of training runs, newest first."""
    found = within_time(lambda: list_folder(get_settings().models_path))
    return [_model_out(model) for model in found] + _run_results(session)


def check_model_exists(session: Session, name: str) -> None:
    """Check that a run may name this model. A hub name always passes; the worker looks it up.

    Raises:
        InvalidInputError: there is no such model, and the message lists those that exist; or it
            cannot be used, and the message says why.
    """
    found = within_time(lambda: find_model(get_settings().models_path, name))
    if found is not None and found.problem:
        _refuse(f"The model {name!r} cannot be used. {found.problem}")
    if found is not None or HUB_NAME.fullmatch(name):
        return
    usable = [model.name for model in list_models(session) if model.problem is None]
    if name in usable:
        return
    available = f"There are: {', '.join(usable)}." if usable else EMPTY_FOLDER
    _refuse(f"{there_is_no('model', repr(name))} {available}")


def _refuse(message: str) -> NoReturn:
    raise InvalidInputError(message, [{"field": MODEL_FIELD, "message": message}])


def check_revision(session: Session, name: str, revision: str | None) -> None:
    """Raises:
    InvalidInputError: a revision is named of a model that is not of the hub.
    """
    if revision is not None and name in [model.name for model in list_models(session)]:
        message = f"The model {name!r} is on this server; only models of the hub have revisions."
        raise InvalidInputError(message, [{"field": "config.revision", "message": message}])


def _model_out(model: FoundModel) -> ModelOut:
    base = model.base.name if isinstance(model.base, FoundModel) else model.base
    named = model.files.adapter.base if model.files.adapter is not None else None
    return ModelOut(
        name=model.name,
        kind=model.files.kind,
        label=_label(model, base or named),
        bytes=model.files.bytes,
        base=base or named if model.files.kind == "adapter" else None,
        problem=model.problem,
    )


def _label(model: FoundModel, base: str | None) -> str:
    match model.files.kind:
        case "adapter":
            return f"{model.name} (adapter of {base})" if base else f"{model.name} (adapter)"
        case "gguf":
            return f"{model.name.removesuffix('.gguf')} (GGUF)"
        case "folder":
            return f"{model.name} (with adapter)" if model.files.adapter else model.name


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def result_bytes(run_id: int) -> int:
    """Size of a training run's model on disk; 0 where it has none."""
    folder = get_settings().run_path(run_id) / RESULT_FOLDER
    return _bytes([file for file in folder.glob("*") if file.is_file()])


def _run_results(session: Session) -> list[ModelOut]:
    runs = session.execute(
        select(Run.id, Run.name)
        .where(Run.kind == "train", Run.status == "succeeded")
        .order_by(Run.id.desc())
    ).all()
    return within_time(
        lambda: [
            ModelOut(
                name=f"run:{run.id}",
                kind="run",
                label=f"Result of run {run.id}: {run.name}",
                bytes=_bytes(sorted(folder.glob("*.safetensors"))),
            )
            for run in runs
            if (folder := get_settings().run_path(run.id) / RESULT_FOLDER).is_dir()
        ]
    )
