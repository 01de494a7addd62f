"""`chesboard.watch`: the core that watches a training from within, whatever trains.

Nothing here raises into the training: what goes wrong is logged once and counted.
"""

import atexit
import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec

import torch

from chesboard.client import checkpoint
from chesboard.client.about import new_run, probe_settings
from chesboard.client.asked import asked_pairs
from chesboard.client.choosing import Cut, Limits, as_config
from chesboard.client.environment import ClientError, Destination, destination
from chesboard.client.looks import Looks
from chesboard.client.metrics import Metrics
from chesboard.client.recording import Recording, folder_of
from chesboard.client.stored import StoredPairs
from chesboard.client.trainer_config import averages_logprobs
from chesboard.record_json import plain
from chesboard.records import Record
from chesboard.sharding import agreed, is_distributed

log = logging.getLogger(__name__)

FINISH_SECONDS = 30.0
EXIT_SECONDS = 5.0
"""How long an interpreter that exits waits for what was not sent."""

Status = Literal["succeeded", "failed", "cancelled"]
P = ParamSpec("P")


def _guarded(entry: Callable[P, Any]) -> Callable[P, None]:
    """A method of Watch of which no error reaches the training."""

    @functools.wraps(entry)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            entry(*args, **kwargs)
        except Exception as error:
            args[0].failed(entry.__name__.strip("_"), error)  # type: ignore[attr-defined]

    return call


class Watch:
    """A watched training. `step` after each optimizer step, `finish` at the end.

    Also a context manager, which finishes: as failed where an exception leaves it.
    """

    def __init__(self, model: Any, tokenizer: Any, pairs: Any, **settings: Any) -> None:
        """As `watch`, which documents the arguments."""
        self.failures = 0
        """How many calls failed. The first of each kind is in the log."""
        self._failed: set[tuple[str, type[Exception]]] = set()
        self._recording: Recording | None = None
        self._looks: Looks | None = None
        self._metrics = Metrics()
        self._messages: list[str] = []
        self._every, self._step, self._finished = 10, 0, False
        self._began, self._pid = time.monotonic(), os.getpid()
        self._is_main = True
        self._begin(model, tokenizer, pairs, **settings)

    # --- what a training calls ------------------------------------------------------------------

    @_guarded
    def step(self, n: int, metrics: Mapping[str, Any] | None = None) -> None:
        """After optimizer step n (from 1): record its metrics, and look at the probes if due.

        metrics: numbers by the names of TRL (rewards/chosen, logps/chosen, loss, …) or those of
        `chesboard.records.MetricRecord`; others are kept by their own.
        """
        if metrics is not None:
            self.log(n, metrics)
        if n % self._every == 0:
            self.look(n)
        self._step = max(self._step, n)

    @_guarded
    def log(self, n: int, metrics: Mapping[str, Any]) -> None:
        """Record numbers of step n alone; those of a step that were recorded before stay."""
        self._step = max(self._step, n)
        record = self._metrics.record(n, metrics)
        if record is not None:
            self._put([record])

    @_guarded
    def look(self, n: int, *, last: bool = False) -> None:
        """Look at the probes at step n. With sharded weights every process has to call this."""
        self._step = max(self._step, n)
        if self._looks is not None and (self._is_main or self._looks.is_collective):
            self._put(self._looks.observe(n, last=last))

    @_guarded
    def save(self, folder: str | os.PathLike[str], n: int) -> None:
        """Keep in the folder of the trainer's checkpoint at step n what a later process needs to go
        on with this run: `watch(…, resume=folder)`."""
        if self._recording is None:
            return
        probes = None if self._looks is None else self._looks.state(n)
        recording = self._recording
        kept = checkpoint.Kept(
            recording.key, n, str(recording.folder.absolute()), recording.body, probes
        )
        recording.checkpointed()
        checkpoint.write(Path(folder), kept)

    @_guarded
    def finish(
        self,
        status: Status = "succeeded",
        error: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """The training ended. Looks a last time, then waits until all is sent, for up to `seconds`
        (None: half a minute)."""
        if self._finished:
            return
        if status == "succeeded":
            self.look(self._step, last=True)
        self._end(status, error, FINISH_SECONDS if seconds is None else seconds)

    @property
    def url(self) -> str | None:
        """The address of the run's page, once the server has told it."""
        return None if self._recording is None else self._recording.page

    @property
    def key(self) -> str | None:
        """What the run is called in its folder and by the server."""
        return None if self._recording is None else self._recording.key

    @property
    def cancel_requested(self) -> bool:
        """Whether someone asked on the run's page that the training stop."""
        return self._recording is not None and self._recording.cancel_requested

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.finish(*_as_ended(error), seconds=EXIT_SECONDS)

    def failed(self, entry: str, error: Exception) -> None:
        """Count an error, and log the first of its kind."""
        self.failures += 1
        if (entry, type(error)) not in self._failed:
            self._failed.add((entry, type(error)))
            log.warning(
                "chesboard: %s failed, and the training goes on: %s: %s",
                entry,
                type(error).__name__,
                error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )
            self._tell(f"{entry} failed, and the training goes on: {type(error).__name__}: {error}")

    # --- begin and end --------------------------------------------------------------------------

    @_guarded
    def _begin(
        self,
        model: Any,
        tokenizer: Any,
        pairs: Any,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        probe_every: int = 10,
        compute_dtype: torch.dtype | None = None,
        resume: str | os.PathLike[str] | None = None,
        dataset_id: int | None = None,
        dataset_sha256: str | None = None,
        cut: Cut | None = None,
        resumed_step: int = 0,
        notes: Sequence[str] = (),
        url: str | None = None,
        token: str | None = None,
        mode: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] = ".",
        **probing: Any,
    ) -> None:
        self._every = max(1, int(probe_every))
        self._is_main = not is_distributed() or torch.distributed.get_rank() == 0
        for text in notes:
            self._message(text)
        described = dict(config or {})
        settings = probe_settings(described, probing, self._every)
        at = self._destination(url, token, mode, folder, output_dir) if self._is_main else None
        limits = Limits(settings.max_prompt_tokens, settings.max_response_tokens)
        found, of_dataset = asked_pairs(model, tokenizer, pairs, limits, cut, at, self._message)
        self._metrics.beta = described.get("reward_beta", described.get("beta"))
        self._metrics.averages = averages_logprobs(described)
        try:
            self._looks = Looks(model, tokenizer, found, settings, compute_dtype, self._message)
        except Exception as error:
            self.failed("looking at the model", error)
        watched = found if self._looks is None else self._looks.pairs
        if not watched and not settings.probes.prompts:
            self._looks = None
        kept = None if resume is None else checkpoint.read(Path(resume))
        if self._looks is not None and self._looks.is_collective:
            kept = agreed(kept)  # the first process's: all go the same way
        self._step = resumed_step if kept is None else kept.step
        if resumed_step and kept is None:
            self._message(
                f"The checkpoint of step {resumed_step} holds no {checkpoint.FILE}, so this is a "
                "new run: its step 0 is where the training went on."
            )
        changed = None if kept is None or self._looks is None else kept.changed(watched)
        if changed is not None:
            self._message(changed)
            self._looks = None
        if at is not None:
            if kept is None:
                body = new_run(
                    *(model, described, settings, as_config(watched, tokenizer)),
                    name=name,
                    dataset_id=of_dataset if dataset_id is None else dataset_id,
                    dataset_sha256=dataset_sha256,
                )
            else:
                body = kept.body
                at = folder_of(at, kept.key, kept.folder)
            resumed = None if kept is None else kept.step
            try:
                self._recording = Recording(at, body, resumed)
                for text in self._messages:
                    self._recording.say(text)
            except OSError as error:
                self.failed("writing records", error)
            atexit.register(self._at_exit)
        self._first_look(kept)

    def _destination(self, *told: Any) -> Destination | None:
        """None where what is told is wrong: other processes may wait for this one's looks."""
        try:
            return destination(*told)
        except ClientError as error:
            self.failed("begin", error)
            return None

    @_guarded
    def _first_look(self, kept: checkpoint.Kept | None) -> None:
        looks = self._looks
        if looks is None or not (self._is_main or looks.is_collective):
            return
        if kept is not None and kept.probes is not None:
            self._put(looks.resume(kept.probes, kept.step))
        else:
            self._put(looks.begin())

    def _end(self, status: Status, error: str | None, seconds: float) -> None:
        self._finished = True
        atexit.unregister(self._at_exit)
        if self._recording is None:
            return
        last = self._metrics.last
        summary = {
            "steps": self._step,
            "seconds": time.monotonic() - self._began,
            "final_loss": None if last is None else last.loss,
            "final_margin": None if last is None else last.margin,
            "tokens_seen": None if last is None else last.tokens_seen,
            "failed_calls": self.failures,
            **({} if self._looks is None else self._looks.summary()),
        }
        ended: dict[str, Any] = {"status": status, "summary": plain(summary)}
        if error is not None:
            ended["error"] = {"message": error}
        self._recording.finish(ended, seconds)

    @_guarded
    def _at_exit(self) -> None:
        """The interpreter exits, and nobody called `finish`."""
        if self._finished or os.getpid() != self._pid:
            return
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        self._end(*_as_ended(error), seconds=EXIT_SECONDS)

    def _put(self, records: Sequence[Record]) -> None:
        if self._recording is not None and not self._finished:
            self._recording.put(records)

    def _message(self, text: str) -> None:
        """Into the log, and onto the run's page."""
        if text not in self._messages:
            if self._is_main:
                log.warning("chesboard: %s", text)
            self._tell(text)

    def _tell(self, text: str) -> None:
        """Onto the run's page. Raises nothing: it is called in looks that other processes wait
        for, and a full disk is told of by what else is written."""
        if text in self._messages:
            return
        self._messages.append(text)
        if self._recording is not None and not self._finished:
            with contextlib.suppress(OSError):
                self._recording.say(text)


def _as_ended(error: BaseException | None) -> tuple[Status, str]:
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "Interrupted from the keyboard."
    if error is None:
        return "failed", "The process ended before it said that the training had."
    return "failed", f"{type(error).__name__}: {error}"[:2000]


def watch(
    model: Any, tokenizer: Any, pairs: Iterable[Any] | StoredPairs = (), **settings: Any
) -> Watch:
    """Watch a training from within: its metrics, and how it moves the probability of some pairs.

    model: the CausalLM that is trained (or a PeftModel around one), not a wrapper such as DDP.
    tokenizer: the model's.
    pairs: what to look at: `chesboard.Pair`, or objects with prompt, chosen and rejected as text,
        or with prompt_ids, chosen_ids and rejected_ids. Or `chesboard.stored(dataset_id, pairs)`:
        pairs of a dataset on the server, by their ordinals.
    name: of the run.
    config: what is to be known of the training: trainer, objective, beta, learning_rate, max_steps,
        world_size and whatever else. beta turns TRL's rewards into changes of log-probability.
    probe_every: steps between looks; the first and the last step are looked at, too.
    prompts: texts or messages, to look at the token that follows.
    token_groups, opposite_groups, ledger_top, ledger_positions, answer_every, answer_tokens,
        max_prompt_tokens, max_response_tokens, batch_tokens: as of a training run.
    compute_dtype: what the training's forward passes compute in; the weights' dtype by default.
    url, token, mode, folder: CHESBOARD_URL, CHESBOARD_TOKEN, CHESBOARD_MODE (online or offline) and
        CHESBOARD_DIR by default. output_dir: holds the folder `chesboard` of records.
    dataset_id, dataset_sha256: a dataset that the server has, which the pairs are rows of.
    resume: the folder of a checkpoint that `Watch.save` was called with: the run goes on.

    Never raises, and changes nothing about the training, not even its random numbers. With several
    processes, every one calls it and its methods; the first records.
    """
    return Watch(model, tokenizer, pairs, **settings)
