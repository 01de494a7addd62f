"""Small trainings by TRL's DPOTrainer, and what they left behind, to the last bit."""

import copy
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chesboard.pairs import TokenizedPair
from tests.tiny_models import build_llama, build_tokenizer, random_pairs


def row(pair: TokenizedPair) -> dict[str, list[int]]:
    """Token ids by TRL's names of columns, and by those before 0.25: others are not read."""
    ids = {
        "prompt": pair.prompt_ids,
        "chosen": pair.preferred_ids,
        "rejected": pair.dispreferred_ids,
    }
    return {f"{part}{end}": list(ids[part]) for end in ("_ids", "_input_ids") for part in ids}


ROWS = [
    row(pair) for pair in random_pairs(17, seed=3) if pair.preferred_ids != pair.dispreferred_ids
]


def tokenizer() -> Any:
    made = build_tokenizer(chat=False)
    made.pad_token = made.eos_token
    return made


def make_trainer(
    folder: Path, *, rows: Any = ROWS, callbacks: Any = (), lora: Any = None, **arguments: Any
) -> Any:
    """A DPOTrainer on a tiny Llama over the rows, two a step; six steps by default."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class OwnTokens(DPOTrainer):
        def _prepare_dataset(self, dataset, *_args, **_kwargs):
            return dataset

    torch.manual_seed(5)
    model = build_llama()
    return OwnTokens(
        model=model,
        ref_model=None if lora else copy.deepcopy(model),
        args=DPOConfig(
            **{
                "output_dir": str(folder),
                "per_device_train_batch_size": 2,
                "max_steps": 6,
                "learning_rate": 3e-3,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "use_cpu": True,
                "bf16": False,
                "max_length": None,
                "gradient_checkpointing": False,
                "disable_tqdm": True,
                "dataloader_pin_memory": False,
                "seed": 11,
                **arguments,
            }
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer(),
        peft_config=lora,
        callbacks=list(callbacks),
    )


@dataclass
class Left:
    """What a training left behind."""

    logs: list[dict[str, Any]]
    weights: dict[str, torch.Tensor]
    optimizer: list[torch.Tensor]
    random_state: list[Any] = field(default_factory=list)


CLOCKS = ("runtime", "per_second", "flos")


def left_by(trainer: Any) -> Left:
    """Its logs without those of time, weights, optimizer state and random generators."""
    optimizer = trainer.optimizer.state_dict()["state"]
    numpy_state = np.random.get_state()
    return Left(
        [
            {name: value for name, value in entry.items() if not any(c in name for c in CLOCKS)}
            for entry in trainer.state.log_history
        ],
        {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()},
        [
            torch.as_tensor(value).clone()
            for key in sorted(optimizer)
            for _, value in sorted(optimizer[key].items())
        ],
        [torch.get_rng_state(), random.getstate(), numpy_state[1].tolist(), numpy_state[2]],  # type: ignore[index]
    )


def trained(folder: Path, **arguments: Any) -> Left:
    random.seed(4)
    np.random.seed(4)
    trainer = make_trainer(folder, **arguments)
    trainer.train()
    return left_by(trainer)


def assert_same(one: Left, other: Left) -> None:
    """To the last bit."""
    assert one.logs == other.logs
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name
    assert len(one.optimizer) == len(other.optimizer) > 0
    assert all(map(torch.equal, one.optimizer, other.optimizer))
    assert torch.equal(one.random_state[0], other.random_state[0])
    assert one.random_state[1:] == other.random_state[1:]
