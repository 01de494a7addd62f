"""Judge runs: verdicts on the answers of a generate run that have none yet."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.arrays import rows_among
from app.core.settings import Settings, get_settings
from app.store import leases
from app.store.generations import Generation
from app.store.judgments import Judgment
from app.store.selection import read_pairs
from chesboard.configs import JudgeConfig
from chesboard.judging.answers import Judge, JudgedAnswer, JudgeError
from chesboard.judging.chat_client import Endpoint
from chesboard.judging.classifier import load_classifier
from chesboard.judging.classifier_files import find_classifier
from chesboard.judging.endpoint import EndpointJudge
from chesboard.judging.keywords import KeywordJudge
from chesboard.judging.summary import summarize_verdicts
from chesboard.loading import asked_dtype, choose_device
from chesboard.records import JudgmentRecord
from chesboard.reporting import Control
from worker.models.cache import ModelCache
from worker.models.loading import describe_device
from worker.recorder import Recorder
from worker.retry import run_with_retry

READ_AT_A_TIME = 1000
"""Answers whose texts are held at a time."""

Key = tuple[int, int]


class NoAnswersError(ValueError):
    """The generate run has left nothing to judge."""


def judge(
    claim: leases.Claim,
    config: JudgeConfig,
    recorder: Recorder,
    control: Control,
    models: ModelCache,
) -> dict[str, Any]:
    """Judge what an earlier attempt at the run has not, and return the summary.

    Only a classifier is loaded, and only where answers are left for it.

    Raises:
        NoAnswersError: there is no answer, or the generate run was deleted.
        JudgeError, ModelError: the judge cannot be used.
        What `control.check()` raises.
    """
    described = f"run {claim.run_id}"
    keys = run_with_retry(described, partial(_answer_keys, config.generate_run))
    if not keys:
        raise NoAnswersError(
            f"Run {config.generate_run} has no answers to judge: it was deleted, or left none."
        )
    verdicts = run_with_retry(described, partial(_stored_verdicts, claim.run_id))
    waiting = [key for key in keys if key not in verdicts]

    def on_judged(records: Sequence[JudgmentRecord]) -> None:
        recorder.put(*records)
        verdicts.update({(one.pair, one.sample): one.verdict for one in records})
        recorder.progress(len(verdicts), len(keys), "answers")

    recorder.progress(len(verdicts), len(keys), "answers")
    if waiting:
        chosen = _choose_judge(config, recorder, control, models)
        recorder.phase("judging")
        for answers in _read(claim, config, waiting):
            chosen.judge(answers, control, on_judged)
    return summarize_verdicts(verdicts.values())


def _choose_judge(
    config: JudgeConfig, recorder: Recorder, control: Control, models: ModelCache
) -> Judge:
    match config.judge:
        case "keywords":
            return KeywordJudge(config.keywords, config.keyword_characters)
        case "endpoint":
            assert config.endpoint_model is not None
            return EndpointJudge(
                endpoint_of(get_settings()), config.endpoint_model, config.question
            )
        case "classifier":
            return _load_classifier(config, recorder, control, models)


def _load_classifier(
    config: JudgeConfig, reporter: Recorder, control: Control, models: ModelCache
) -> Judge:
    assert config.classifier is not None
    control.check()
    reporter.phase("loading")
    device = choose_device(config.device)
    dtype = asked_dtype("auto", device)
    reporter.device(f"{describe_device(device)}, {str(dtype).removeprefix('torch.')}")
    files = find_classifier(get_settings().models_path, config.classifier)
    models.forget()  # so that both need not fit into memory at a time
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return load_classifier(files, config.label, device, dtype, config.threshold, config.reads)


def endpoint_of(settings: Settings) -> Endpoint:
    """The endpoint that the settings name.

    Raises:
        JudgeError: they name none.
    """
    if settings.judge_url is None:
        raise JudgeError(
            "This worker knows no endpoint to ask: set CHESBOARD_JUDGE_URL, and "
            "CHESBOARD_JUDGE_KEY if it wants a key, where the worker is started."
        )
    return Endpoint(
        url=settings.judge_url,
        key=settings.judge_key,
        requests_per_minute=settings.judge_requests_per_minute,
        concurrency=settings.judge_concurrency,
        timeout=settings.judge_timeout.total_seconds(),
    )


def _answer_keys(run_id: int, session: Session) -> list[Key]:
    rows = session.execute(
        select(Generation.pair, Generation.sample)
        .where(Generation.run_id == run_id)
        .order_by(Generation.pair, Generation.sample)
    )
    return [(row.pair, row.sample) for row in rows]


def _stored_verdicts(run_id: int, session: Session) -> dict[Key, bool | None]:
    columns = Judgment.pair, Judgment.sample, Judgment.verdict
    rows = session.execute(select(*columns).where(Judgment.run_id == run_id))
    return {(row.pair, row.sample): row.verdict for row in rows}


def _read(
    claim: leases.Claim, config: JudgeConfig, keys: Sequence[Key]
) -> Iterator[list[JudgedAnswer]]:
    for start in range(0, len(keys), READ_AT_A_TIME):
        some = keys[start : start + READ_AT_A_TIME]
        yield run_with_retry(
            f"run {claim.run_id}", partial(_read_answers, claim.dataset_id, config, some)
        )


def _read_answers(
    dataset_id: int, config: JudgeConfig, keys: Sequence[Key], session: Session
) -> list[JudgedAnswer]:
    """The answers with their prompts, as the generate run read these."""
    pairs = sorted({pair for pair, _ in keys})
    prompts = {
        one.pair: one.prompt for one in read_pairs(session, config.generate_run, dataset_id, pairs)
    }
    rows = session.execute(
        select(Generation.pair, Generation.sample, Generation.text)
        .where(
            Generation.run_id == config.generate_run,
            rows_among((Generation.pair, Generation.sample), keys),
        )
        .order_by(Generation.pair, Generation.sample)
    )
    return [JudgedAnswer(row.pair, row.sample, prompts[row.pair], row.text) for row in rows]
