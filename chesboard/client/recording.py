"""Recording: the main process's side of a watched run, from records to spool and sender."""

import logging
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chesboard.client.environment import Destination
from chesboard.client.sender import Sender
from chesboard.client.spool import Spool
from chesboard.record_json import MAX_MESSAGE, plain, to_json
from chesboard.records import Record

log = logging.getLogger(__name__)


class Recording:
    """A run's spool in this process, and the thread that sends it."""

    def __init__(
        self, destination: Destination, body: Mapping[str, Any], resumed_from_step: int | None
    ) -> None:
        """body: what creates the run; its `key` names the folder.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.body = dict(body)
        self.folder = destination.folder / str(body["key"])
        self._spool = Spool(self.folder)
        self._sender = Sender(self._spool, destination)
        self._write("run", self.body)
        if resumed_from_step is not None:
            self._write("attempt", {"resumed_from_step": resumed_from_step})
        self._sender.start()

    @property
    def key(self) -> str:
        return str(self.body["key"])

    @property
    def page(self) -> str | None:
        return self._sender.page

    @property
    def cancel_requested(self) -> bool:
        return self._sender.cancel_requested

    def put(self, records: Iterable[Record]) -> None:
        for record in records:
            self._write("record", to_json(record))

    def say(self, text: str) -> None:
        """Something that those who look at the run's page should know."""
        self._write("message", plain(text[:MAX_MESSAGE]))

    def checkpointed(self) -> None:
        """Bring everything onto the disk: a run that resumes from the checkpoint counts on it."""
        self._spool.sync()

    def finish(self, ended: Mapping[str, Any], seconds: float) -> None:
        """Say how the run ended, and wait so long until everything is sent."""
        self._write("finish", ended)
        self._spool.sync()
        if not self._sender.close(seconds):
            log.warning(
                "chesboard: the records of this run are in %s. To send them:\n"
                "    chesboard sync %s",
                self.folder,
                self.folder,
            )

    def _write(self, name: str, value: Any) -> None:
        self._sender.notify(self._spool.append({name: value}))


def new_key() -> str:
    return uuid.uuid4().hex


def folder_of(destination: Destination, key: str, was: str) -> Destination:
    """Where the spool of an earlier attempt is, if it is still there; else where new ones go."""
    earlier = Path(was)
    if (destination.folder / key).is_dir() or not earlier.is_dir() or earlier.name != key:
        return destination
    return Destination(destination.url, destination.token, earlier.parent)
