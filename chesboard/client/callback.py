"""The callback for Hugging Face trainers, TRL's among them: `chesboard.Callback`.

Each event of the trainer is one call of `Watch`. Nothing is begun before the training is, so that
the callback can be pickled until then.
"""

import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from transformers import TrainerCallback

from chesboard.client.checkpoint import FILE
from chesboard.client.choosing import of_dataset, rows_of_dataset
from chesboard.client.stored import StoredPairs, as_stored
from chesboard.client.trainer_config import compute_dtype, cut_of, run_name, trainer_config
from chesboard.client.watch import Watch
from chesboard.sharding import agreed

log = logging.getLogger(__name__)

Event = TypeVar("Event", bound=Callable[..., None])


def _guarded(event: Event) -> Event:
    """An event of which no error reaches the trainer."""

    @functools.wraps(event)
    def call(self: "Callback", *args: Any, **kwargs: Any) -> None:
        try:
            event(self, *args, **kwargs)
        except Exception as error:
            if self.watch is not None:
                self.watch.failed(event.__name__, error)
            else:
                log.warning(
                    "chesboard: %s failed: %s: %s", event.__name__, type(error).__name__, error
                )

    return cast(Event, call)


class Callback(TrainerCallback):  # type: ignore[misc]
    """Watches a trainer: `trainer.add_callback(chesboard.Callback())`."""

    def __init__(
        self,
        probes: int | Iterable[Any] | StoredPairs | None = None,
        *,
        probe_every: int = 10,
        allow_stop: bool = False,
        **settings: Any,
    ) -> None:
        """probes: what to look at. Default: the first four pairs that the trainer has token ids of;
            a number: so many; row numbers of the training data; or pairs as `chesboard.watch` takes
            them, `chesboard.stored(dataset_id, pairs)` among them.
        probe_every: optimizer steps between looks.
        allow_stop: whether a cancel on the run's page stops the training, at the next look.
        settings: others of `chesboard.watch`, such as name, url, prompts, token_groups.
        """
        self.watch: Watch | None = None
        if probes is None or isinstance(probes, int):
            self._probes: Any = probes
        else:
            self._probes = as_stored(probes) or list(cast(Iterable[Any], probes))
        self._probe_every, self._allow_stop = max(1, int(probe_every)), allow_stop
        self._settings = settings
        self._stopped = False

    @_guarded
    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        processing_class: Any = None,
        train_dataloader: Any = None,
        **others: Any,
    ) -> None:
        if self.watch is not None:
            self.watch.finish("failed", "Another training began in the same process.", seconds=0)
        self._stopped = False
        tokenizer = processing_class or others.get("tokenizer")
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor holds one
        settings = {
            "output_dir": args.output_dir,
            "name": run_name(args),
            "compute_dtype": compute_dtype(args),
            "cut": cut_of(args),
            **self._settings,
        }
        settings["config"] = {
            **trainer_config(args, state.max_steps),
            **(self._settings.get("config") or {}),
        }
        if state.global_step > 0:
            settings.setdefault("resume", _checkpoint_of(args, state.global_step))
            settings["resumed_step"] = state.global_step
        dataset = getattr(train_dataloader, "dataset", None)
        pairs, notes = self._pairs(dataset, tokenizer, args)
        self.watch = Watch(
            model, tokenizer, pairs, probe_every=self._probe_every, notes=notes, **settings
        )

    def _pairs(self, dataset: Any, tokenizer: Any, args: Any) -> tuple[Any, list[str]]:
        """What to watch, and what is to be known of it."""
        asked = self._probes
        if isinstance(asked, StoredPairs):
            return asked, []
        try:
            if asked is None or isinstance(asked, int):
                count = 4 if asked is None else asked
                found = of_dataset(dataset, tokenizer, count, cut_of(args))
                if not found and count:
                    return [], [
                        "The training data hold no token ids of pairs, so that no pair is watched. "
                        "Name some: chesboard.Callback(probes=[…])."
                    ]
                return found, []
            if all(isinstance(one, int) for one in asked):
                return rows_of_dataset(dataset, tokenizer, asked, cut_of(args)), []
        except Exception as error:
            return [], [f"No pair is watched. {type(error).__name__}: {error}"]
        return asked, []

    @_guarded
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.watch is None or state.global_step % self._probe_every:
            return
        self.watch.look(state.global_step)
        if self._allow_stop and agreed(self.watch.cancel_requested):
            self._stopped = True
            control.should_training_stop = True

    @_guarded
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.watch is not None and logs:
            self.watch.log(state.global_step, logs)

    @_guarded
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.watch is not None and folder.is_dir():
            self.watch.save(folder, state.global_step)

    @_guarded
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.watch is not None:
            self.watch.finish("cancelled" if self._stopped else "succeeded")


def _checkpoint_of(args: Any, step: int) -> str | None:
    """The checkpoint that a trainer resumed from, as far as its arguments tell."""
    folders = [Path(args.output_dir) / f"checkpoint-{step}"]
    named = getattr(args, "resume_from_checkpoint", None)
    if isinstance(named, str):
        folders.insert(0, Path(named))
    return next((str(folder) for folder in folders if (folder / FILE).is_file()), None)
