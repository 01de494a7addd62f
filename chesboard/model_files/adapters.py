"""Adapters of peft: which model they belong to, and which kinds can be merged into it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chesboard.model_files.headers import find_fault
from chesboard.model_files.json_files import FaultyFileError, read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
UNMERGEABLE = {
    "PROMPT_TUNING": "prompt tuning",
    "MULTITASK_PROMPT_TUNING": "multitask prompt tuning",
    "P_TUNING": "p-tuning",
    "PREFIX_TUNING": "prefix tuning",
    "CPT": "context-aware prompt tuning",
    "ADAPTION_PROMPT": "LLaMA-Adapter",
}
"""Kinds of adapters that add to what the model reads, in place of changing its weights."""
_SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/")


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What the files of an adapter say of it."""

    base: str | None
    """The base model as the adapter's training named it: a hub name or a path on that machine."""
    kind: str
    """peft's name of it: LORA, IA3, ..."""
    weights: Path
    problem: str | None


def read_adapter(folder: Path) -> AdapterFiles:
    """The adapter of a folder that has an adapter_config.json."""
    weights = folder / ADAPTER_WEIGHTS
    try:
        config = read_json(folder / ADAPTER_CONFIG)
    except FaultyFileError as error:
        return AdapterFiles(None, "", weights, str(error))
    base, kind = config.get("base_model_name_or_path"), str(config.get("peft_type") or "")
    problem = _find_problem(config, kind, weights)
    return AdapterFiles(base if isinstance(base, str) and base else None, kind, weights, problem)


def hub_name_of_snapshot(path: str) -> str | None:
    """`org/name` of a path into a hub cache."""
    found = _SNAPSHOT.search(path.replace("\\", "/") + "/")
    return f"{found[1]}/{found[2]}" if found else None


def base_folder_name(base: str) -> str:
    """The last part of a base's name, under which its folder is looked for."""
    snapshot = hub_name_of_snapshot(base)
    return re.split(r"[/\\]", (snapshot or base).rstrip("/\\"))[-1]


def _find_problem(config: dict[str, Any], kind: str, weights: Path) -> str | None:
    if not kind:
        return f"{ADAPTER_CONFIG} has no `peft_type`: it is no configuration of a peft adapter."
    if kind in UNMERGEABLE:
        return (
            f"The adapter is of the kind {UNMERGEABLE[kind]} ({kind}), which cannot be merged into "
            "its base model's weights. Chesboard loads adapters that can (LoRA, DoRA, IA³, …)."
        )
    task = config.get("task_type")
    if task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"):
        return (
            f"The adapter was trained for {task}, not for a causal language model (CAUSAL_LM): "
            "what it gives is no probability of a token."
        )
    if not weights.exists() and not weights.is_symlink():
        if weights.with_suffix(".bin").exists():
            return (
                f"The adapter's weights are pickled (adapter_model.bin). Pickles are never opened, "
                f"since they can run code: save the adapter as {ADAPTER_WEIGHTS}, with peft's "
                "save_pretrained."
            )
        return f"{ADAPTER_WEIGHTS} is missing beside {ADAPTER_CONFIG}."
    return find_fault(weights)
