"""What a run needs of a worker's memory, what the workers have, and what would make it fit: said
before it is queued, from headers and configurations alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.models.folder import within_time
from app.models.queries import RESULT_FOLDER
from app.runs.validation import check_config, invalid_field
from app.store.datasets import Dataset
from app.store.lookup import Id, there_is_no
from app.store.runs import EXTERNAL, Kind, Worker
from chesboard.capacity.estimate import Needs, Setup
from chesboard.capacity.shape import ModelSize
from chesboard.configs import GenerateConfig, ModelConfig, RunConfig, TrainConfig
from chesboard.model_files.folder import FoundModel, find_model
from chesboard.needs import (
    MEMORY_SHARE,
    Device,
    fitting,
    gigabytes,
    in_words,
    remedies_for,
    setup_of,
)

MOST_REMEDIES = 4
"""How many ways to make a run fit are named."""
CHARACTERS_A_TOKEN = 3
"""Fewer than most tokenizers have: English has about four."""
TEMPLATE_TOKENS = 64
"""What a chat template adds to a prompt, roughly."""

Verdict = Literal["fits", "tight", "too large"]


class CapacityPart(BaseModel):
    name: str = Field(description="weights, gradients, optimizer, activations, …")
    bytes: int


class CapacityRemedy(BaseModel):
    words: str
    settings: dict[str, Any] = Field(description="Of the run's configuration; may be empty.")
    needs_bytes: int


class WorkerCapacity(BaseModel):
    """What the run needs on a worker, and what this one has."""

    worker: str
    device: str
    gpus: int = Field(
        description="Over how many the model would be spread, those of other workers on its seats "
        "included. Memory is of each."
    )
    memory_bytes: int = Field(description="Of its device.")
    room_bytes: int = Field(description="What a run may take of it at present.")
    needs_bytes: int
    parts: list[CapacityPart]
    streamed: bool = Field(description="Whether the model would be read layer by layer.")
    verdict: Verdict = Field(
        description="tight: an estimate says that the memory may not do; batches are then halved."
    )
    remedies: list[CapacityRemedy] = Field(description="Each would make it fit.")
    lacks_workers: bool = Field(
        description="Whether too few of the workers are there that would train the model together "
        "(`chesboard worker --seats N`)."
    )
    sentence: str


class Capacity(BaseModel):
    level: Literal["ok", "warn", "unknown"] = Field(
        description="warn: there may be no worker that the run fits. It can be queued all the same."
    )
    sentence: str
    workers: list[WorkerCapacity] = Field(description="The one with the most room first.")


class CapacityAsked(BaseModel):
    """The run as `POST /runs` takes it."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    dataset_id: Id
    config: dict[str, Any] = Field(default_factory=dict)


def foresee(session: Session, asked: CapacityAsked) -> Capacity:
    """What a run would need, and which workers have it. Nothing is stored.

    Raises:
        InvalidInputError: no such dataset, or a setting of the configuration is invalid.
    """
    if asked.kind == EXTERNAL:
        raise invalid_field("kind", "an external run is trained elsewhere, in memory of its own")
    config = check_config(asked.kind, asked.config)
    dataset = session.get(Dataset, asked.dataset_id)
    if dataset is None:
        raise invalid_field("dataset_id", there_is_no("dataset", asked.dataset_id))
    return of_run(session, config, dataset)


def of_run(session: Session, config: RunConfig, dataset: Dataset) -> Capacity:
    """What a run of a checked configuration would need, and which workers have it."""
    if not isinstance(config, ModelConfig) or setup_of(config, _ANY, "cpu") is None:
        return _unknown("This kind of run holds no language model in memory.")
    size = model_size(config)
    if size is None:
        return _unknown(
            f"What the model “{config.model}” needs is known once it is on this server: its size "
            "is not."
        )
    workers = _announced(session)
    beside = _filter_bytes(config)
    longest = longest_row(dataset, config)
    found = []
    for worker in workers:
        device = _device_for(config, worker)
        setup = None if device is None else setup_of(config, size, device, longest, beside)
        if setup is not None:
            there = sum((one.gpus, one.seats) == (worker.gpus, worker.seats) for one in workers)
            found.append(_on_worker(config, setup, worker, there))
    if not found:
        other: Device = "cuda" if config.device.startswith("cuda") else "cpu"
        setup = setup_of(config, size, other, longest, beside)
        assert setup is not None
        _, needs = fitting(config, setup, 1 << 62)
        return _unknown(f"{_needed(needs)} No worker has told what memory it has.")
    found.sort(key=lambda one: (_ORDER.index(one.verdict), one.lacks_workers, -one.room_bytes))
    best = found[0]
    fits = best.verdict == "fits" and not best.lacks_workers
    return Capacity(level="ok" if fits else "warn", sentence=best.sentence, workers=found)


_ORDER: tuple[Verdict, ...] = ("fits", "tight", "too large")
_ANY = ModelSize.of_parameters(0)


def _unknown(sentence: str) -> Capacity:
    return Capacity(level="unknown", sentence=sentence, workers=[])


def warning(session: Session, config: RunConfig, dataset: Dataset) -> str | None:
    """A message for a run that no worker may have room for; None where one has, or nothing is
    known. Not where it waits for other workers: its page tells that for as long as it is so."""
    found = of_run(session, config, dataset)
    if found.level != "warn" or found.workers[0].verdict == "fits":
        return None
    return found.sentence


@dataclass(frozen=True, slots=True)
class _Announced:
    """What a worker says of its device (worker/telemetry.py)."""

    name: str
    device: str
    kind: Device
    devices: int
    memory: int
    room: int
    ram: int
    gpus: int
    seats: int
    """With how many GPUs, and workers of its kind, it trains a model."""


def _announced(session: Session) -> list[_Announced]:
    """The live workers that say what memory they have."""
    recently = func.now() - get_settings().lease
    rows = session.scalars(select(Worker).where(Worker.seen_at >= recently).order_by(Worker.name))
    return [
        _Announced(
            name=row.name,
            device=row.device,
            kind="cuda" if row.report["device_kind"] == "cuda" else "cpu",
            devices=int(row.report["devices"]),
            memory=int(row.report["device_memory_bytes"]),
            room=int(row.report["room_bytes"]),
            ram=int(row.report["ram_bytes"]),
            gpus=int(row.report.get("gpus", 1)),
            seats=int(row.report.get("seats", 1)),
        )
        for row in rows
        if "room_bytes" in row.report
    ]


def _device_for(config: ModelConfig, worker: _Announced) -> Device | None:
    """On which device of a worker the run would be; None where it has none such."""
    if config.device.startswith("cuda"):
        return "cuda" if worker.kind == "cuda" else None
    return worker.kind if config.device == "auto" else "cpu"


def _on_worker(config: ModelConfig, setup: Setup, worker: _Announced, there: int) -> WorkerCapacity:
    """there: how many workers train with as many GPUs and seats, this one included."""
    is_main = setup.device != worker.kind  # the processor of a worker that has a GPU
    memory, room = (worker.ram, worker.ram) if is_main else (worker.memory, worker.room)
    if setup.work == "train" and setup.device == "cuda":
        setup = replace(setup, gpus=worker.gpus * worker.seats)
    lacking = setup.work == "train" and there < worker.seats
    begins = f" It begins once {worker.seats} workers like it are there: {there} is now." * lacking
    setup, needs = fitting(config, setup, room)
    verdict: Verdict = (
        "fits"
        if needs.total <= MEMORY_SHARE * room
        else "tight"
        if needs.certain <= room
        else "too large"
    )
    remedies = [] if verdict == "fits" else remedies_for(config, setup, room, worker.devices)
    remedies = remedies[:MOST_REMEDIES]
    return WorkerCapacity(
        worker=worker.name,
        device=worker.device,
        gpus=setup.gpus,
        memory_bytes=memory,
        room_bytes=room,
        needs_bytes=needs.total,
        parts=[CapacityPart(name=part.name, bytes=part.bytes) for part in needs.parts],
        streamed=setup.streamed,
        verdict=verdict,
        remedies=[
            CapacityRemedy(
                words=one.words, settings=dict(one.settings), needs_bytes=one.needs.total
            )
            for one in remedies
        ],
        lacks_workers=lacking,
        sentence=_sentence(worker, room, setup, needs, verdict, [one.words for one in remedies])
        + begins,
    )


def _sentence(
    worker: _Announced,
    room: int,
    setup: Setup,
    needs: Needs,
    verdict: Verdict,
    would_fit: list[str],
) -> str:
    streamed = " The model is read layer by layer, as it does not fit whole." * setup.streamed
    each = f" on each of {setup.gpus} GPUs" * (setup.gpus > 1)
    has = f"Worker {worker.name} has {gigabytes(room)} for a run{each}"
    judged = {
        "fits": "that fits",
        "tight": "that may not do",
        "too large": "that does not fit",
    }[verdict]
    advice = ""
    if would_fit:
        advice = f" It would with {', or '.join(would_fit)}."
    elif verdict != "fits":
        shorter = "shorter texts (max_prompt_tokens, max_response_tokens), " * (verdict == "tight")
        advice = f" What would make it fit: {shorter}a smaller model, or a larger device."
    return f"{_needed(needs)}{streamed} {has}: {judged}.{advice}"


def _needed(needs: Needs) -> str:
    return f"Needs about {gigabytes(needs.total)}: {in_words(needs.parts)}."


def model_size(config: ModelConfig) -> ModelSize | None:
    """The size of a run's model by its files on this server; None where these are not here."""
    return within_time(lambda: _model_size(config))


def _model_size(config: ModelConfig) -> ModelSize | None:
    settings = get_settings()
    if config.model.startswith("run:"):
        number = config.model.removeprefix("run:")
        if not number.isdecimal():
            return None
        return ModelSize.at(settings.run_path(int(number)) / RESULT_FOLDER)
    found = find_model(settings.models_path, config.model)
    if found is None and config.revision is None:
        from huggingface_hub import constants  # takes a while to import

        found = find_model(Path(constants.HF_HUB_CACHE), config.model)
    return None if found is None or found.problem else _size_of(found)


def _size_of(found: FoundModel) -> ModelSize | None:
    if isinstance(found.base, FoundModel):
        return _size_of(found.base)
    if found.base is not None or not found.files.weights:
        return None  # an adapter of a model of the hub
    is_gguf = found.files.kind == "gguf"
    return ModelSize.at(found.files.weights[0] if is_gguf else found.path)


def _filter_bytes(config: ModelConfig) -> int:
    """Of the reward model that a training run holds beside its own."""
    if not isinstance(config, TrainConfig) or config.refresh_filter is None:
        return 0
    name = config.refresh_filter.reward_model

    def look() -> ModelSize | None:
        found = find_model(get_settings().models_path, name)
        return None if found is None else ModelSize.at(found.path)

    size = within_time(look)
    return 0 if size is None else size.parameters * 4


def longest_row(dataset: Dataset, config: ModelConfig) -> int | None:
    """Tokens of the dataset's longest prompt with both responses, or with an answer, by its
    characters; None where these were not counted."""
    characters = dataset.statistics.get("characters") or {}
    try:
        longest = {name: int(characters[name]["max"]) for name in _TEXTS}
    except (KeyError, TypeError):
        return None
    prompt = min(
        config.max_prompt_tokens, longest["prompt"] // CHARACTERS_A_TOKEN + TEMPLATE_TOKENS
    )
    if isinstance(config, GenerateConfig):
        return prompt + config.answer_tokens
    responses = (
        min(config.max_response_tokens, longest[name] // CHARACTERS_A_TOKEN + 1)
        for name in _TEXTS[1:]
    )
    return prompt + sum(responses)


_TEXTS = ("prompt", "preferred", "dispreferred")
