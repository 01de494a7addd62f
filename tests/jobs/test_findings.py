"""Every run reports what tokenizing shows of its pairs; a check run does nothing else."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from transformers import AutoConfig, AutoTokenizer

from app.core.database import transaction
from app.store.findings import RunFinding
from app.store.scores import Score
from chesboard.findings import FINDINGS
from chesboard.reporting import RunCancelledError
from chesboard.tokenization import tokenize_pairs
from tests.app import factories
from tests.app.rows import stored
from tests.jobs.interruption import resume
from tests.model_folders import safetensors
from worker import preparing
from worker.execution import execute
from worker.lease_keeper import LeaseKeeper
from worker.models.cache import ModelCache
from worker.scoring import Scoring

PLAIN = ("Is it?", "Yes", "No")
CUT_ALIKE = ("Is it?", "Well, yes", "Well, no")
TEMPLATED = ("<|im_start|>user\nIs it?<|im_end|>\n", "Yes", "No")
LONG = ("Is it? " * 20, "Yes", "No")
PAIRS = [PLAIN, CUT_ALIKE, TEMPLATED, LONG]
LIMITS: dict[str, Any] = {"max_response_tokens": 4, "max_prompt_tokens": 60}
FOUND = [
    (1, "response_truncated"),
    (1, "same_tokens"),
    (2, "rendered_prompt"),
    (3, "prompt_truncated"),
]


def run_of(
    kind: str, pairs: list[tuple[str, str, str]] = PAIRS, config: dict[str, Any] = LIMITS
) -> int:
    with transaction() as session:
        dataset = factories.dataset(session, pairs)
        return factories.run(session, dataset.id, kind=kind, status="queued", config=config).id


def found(run_id: int) -> list[tuple[int, str]]:
    with transaction() as session:
        rows = session.execute(
            select(RunFinding.pair, RunFinding.kind)
            .where(RunFinding.run_id == run_id)
            .order_by(RunFinding.pair, RunFinding.kind)
        )
        return [(row.pair, row.kind) for row in rows]


@pytest.mark.parametrize("kind", ["check", "score", "evaluate", "train"])
def test_findings_are_stored_and_counted(models: ModelCache, kind: str) -> None:
    config = {**LIMITS, "max_steps": 1} if kind == "train" else LIMITS
    run_id = run_of(kind, config=config)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert found(run_id) == FOUND
    assert run.summary["findings"] == {kind: 1 for _, kind in FOUND}
    assert set(run.summary["findings"]) <= set(FINDINGS)
    said = [*run.messages, *run.pair_messages]
    assert any("had been rendered by this chat template" in text for text in said)


def test_they_are_stored_before_anything_is_computed(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("the expensive part")

    monkeypatch.setattr(Scoring, "work", fail)
    run_id = run_of("score")
    execute(run_id, "ada", models)
    assert stored(run_id).status == "failed"
    assert found(run_id) == FOUND


def test_a_repeated_run_stores_each_finding_once(
    models: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = run_of("check")
    execute(run_id, "ada", models)
    resume(run_id, models)
    assert found(run_id) == FOUND


@pytest.mark.parametrize("kind", ["check", "score", "train"])
def test_a_pair_with_a_token_that_the_model_lacks_is_left_out(
    models: ModelCache, models_dir: Path, kind: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "tiny")
    rows = AutoConfig.from_pretrained(models_dir / "tiny").vocab_size
    tokenizer.add_tokens([f"<new{n}>" for n in range(rows - len(tokenizer))])
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(models_dir / "tiny")
    config = {"max_steps": 1} if kind == "train" else {}
    run_id = run_of(kind, [PLAIN, ("Is it a <tool>?", "Yes", "No")], config=config)
    execute(run_id, "ada", models)
    run = stored(run_id)
    assert run.status == "succeeded", run.error
    assert found(run_id) == [(1, "unknown_token")]
    assert run.summary["left_out_pairs"] == 1
    said = [*run.messages, *run.pair_messages]
    assert any(f"“<tool>” (id {rows})" in text for text in said)


class TestCheckRun:
    def test_needs_no_weights(self, models: ModelCache, models_dir: Path) -> None:
        weights = models_dir / "tiny" / "model.safetensors"
        weights.write_bytes(safetensors())
        run_id = run_of("check")
        execute(run_id, "ada", models)
        run = stored(run_id)
        assert run.status == "succeeded", run.error
        assert (run.progress_done, run.progress_total) == (len(PAIRS), len(PAIRS))
        assert run.device is None
        with transaction() as session:
            assert session.scalar(select(Score.pair).where(Score.run_id == run_id)) is None

    def test_tells_lengths_before_the_cut(self, models: ModelCache) -> None:
        run_id = run_of("check", [PLAIN, CUT_ALIKE])
        execute(run_id, "ada", models)
        whole = run_of("check", [PLAIN, CUT_ALIKE], {"max_response_tokens": 1024})
        execute(whole, "ada", models)
        summary = stored(run_id).summary
        assert (summary["pairs"], summary["left_out_pairs"], summary["cut_pairs"]) == (2, 0, 1)
        assert summary["tokens"] == stored(whole).summary["tokens"]
        # "Well, no" is a token a byte but for the known word, and an end token.
        assert summary["tokens"]["dispreferred"]["maximum"] == len("Well, no") + 1
        assert stored(whole).summary["findings"] == {}

    def test_is_cancelled_while_it_tokenizes(
        self, models: ModelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = run_of("check", [PLAIN] * 6)
        monkeypatch.setattr(preparing, "TOKENIZED_AT_A_TIME", 2)
        slices: list[int] = []

        def tokenize(*arguments: Any) -> Any:
            slices.append(len(arguments[1]))
            return tokenize_pairs(*arguments)

        def check(_: LeaseKeeper) -> None:
            if slices:
                raise RunCancelledError("someone asked for it after the first slice")

        monkeypatch.setattr(preparing, "tokenize_pairs", tokenize)
        monkeypatch.setattr(LeaseKeeper, "check", check)
        execute(run_id, "ada", models)
        assert stored(run_id).status == "cancelled"
        assert slices == [2]

    def test_of_a_model_without_tokenizer_says_so(
        self, models: ModelCache, models_dir: Path
    ) -> None:
        for file in (models_dir / "tiny").glob("*token*"):
            file.unlink()
        run_id = run_of("check")
        execute(run_id, "ada", models)
        run = stored(run_id)
        assert run.status == "failed"
        assert run.error is not None
        assert "The folder has no tokenizer" in run.error["message"]
        assert run.error["hint"] is None
