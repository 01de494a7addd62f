"""Sequence classifiers and reward models in the models folder, by name and without torch."""

from dataclasses import dataclass
from pathlib import Path

from chesboard.judging.answers import JudgeError
from chesboard.model_files.folder import find_model
from chesboard.model_files.folder import list_models as list_folder
from chesboard.model_files.headers import find_fault
from chesboard.model_files.inspection import weight_files
from chesboard.model_files.json_files import FaultyFileError, read_json

CLASSIFIER = "ForSequenceClassification"
"""End of the name of the class of models that give a text a score per label."""

REWARD_LABELS = 2
"""Labels that a classifier may have whose scores are taken as rewards."""


@dataclass(frozen=True, slots=True)
class ClassifierFiles:
    """A sequence classifier's folder. labels: in the order of its scores; one alone is a reward
    model's."""

    name: str
    path: Path
    labels: tuple[str, ...]

    @property
    def is_reward_model(self) -> bool:
        return len(self.labels) == 1


def list_classifiers(root: Path) -> list[ClassifierFiles]:
    """Those of the models folder whose files can be read, by name."""
    found = (_read(model.name, model.path) for model in list_folder(root))
    return [one for one in found if one is not None]


def find_classifier(root: Path, name: str) -> ClassifierFiles:
    """The classifier of that name.

    Raises:
        JudgeError: the models folder has none, or its files cannot be read.
    """
    model = find_model(root, name)
    found = None if model is None else _read(model.name, model.path)
    if model is None:
        raise JudgeError(f"There is no model “{name}” in the models folder. {_available(root)}")
    if found is None:
        raise JudgeError(
            f"“{name}” is no sequence classifier: its config.json names no class that ends with "
            f"{CLASSIFIER}, or its files are damaged. {_available(root)}"
        )
    try:
        faults = [fault for file in weight_files(found.path) if (fault := find_fault(file))]
    except FaultyFileError as error:
        faults = [str(error)]
    if problem := next(iter(faults), model.files.tokenizer_problem):
        raise JudgeError(f"The classifier “{name}” cannot be used. {problem}")
    return found


def check_label(files: ClassifierFiles, label: str | None) -> None:
    """Check that a label says what to look for.

    Raises:
        JudgeError: the classifier has no such label, or has several and none is named.
    """
    if files.is_reward_model:
        if label is not None and label not in files.labels:
            raise JudgeError(
                f"“{files.name}” is a reward model: it gives one score and has no label “{label}”. "
                "Leave the label out."
            )
        return
    if label is None or label not in files.labels:
        asked = "Name the label to look for" if label is None else f"There is no label “{label}”"
        raise JudgeError(f"{asked}: “{files.name}” has {', '.join(files.labels)}.")


def check_reward(files: ClassifierFiles) -> None:
    """Check that a classifier can say which of two texts is better: by one score, or two labels.

    Raises:
        JudgeError: it has more labels.
    """
    if len(files.labels) > REWARD_LABELS:
        raise JudgeError(
            f"“{files.name}” has {len(files.labels)} labels: {', '.join(files.labels)}. Name a "
            "reward model, which gives one score, or a classifier with two labels."
        )


def _available(root: Path) -> str:
    names = [one.name for one in list_classifiers(root)]
    if not names:
        return "The models folder has no classifier: put one there, as safetensors."
    return f"There are: {', '.join(names)}."


def _read(name: str, path: Path) -> ClassifierFiles | None:
    try:
        config = read_json(path / "config.json")
    except FaultyFileError:
        return None
    architectures = config.get("architectures")
    classes = architectures if isinstance(architectures, list) else []
    if not classes or not str(classes[0]).endswith(CLASSIFIER):
        return None
    by_id = config.get("id2label")
    # What transformers assumes of a configuration that names no labels.
    labels = by_id if isinstance(by_id, dict) and by_id else {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        ordered = sorted(labels, key=int)
    except (TypeError, ValueError):
        return None
    return ClassifierFiles(name, path, tuple(str(labels[key]) for key in ordered))
