"""One process of several that train a model: what it leaves for the worker that started it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from app.store.leases import Claim
from tests.support import give_up_as_a_tokenizer_does
from worker import ranks
from worker.pulse import Pulse


@pytest.mark.parametrize("rank", [0, 1])
def test_a_tokenizer_whose_library_gives_up_fails_the_run_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """Its exception is no Exception: unheeded, it ended the process without a word, and the run was
    begun anew again and again."""
    monkeypatch.setattr(ranks, "read_task", lambda _: (SimpleNamespace(run_id=1), "folder"))
    monkeypatch.setattr(ranks, "_join", lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(ranks, "_lead" if rank == 0 else "_follow", give_up)
    found = ranks._attempt(tmp_path, Pulse(tmp_path, rank))
    assert (found["status"], found["lost_another"]) == ("failed", False)
    assert "A library that reads the model gave up: " in found["error"]["message"]
    assert "choose another model" in json.loads(json.dumps(found))["error"]["hint"]


def give_up(_claim: Claim, _location: str, _pulse: Pulse) -> Any:
    give_up_as_a_tokenizer_does()
