"""The models folder as requests read it: its disk may not answer.

Often it is a network's, shared by several machines. A request that waits for it holds a thread of
the web server, and all of them would soon be held.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from app.core.errors import UnavailableError
from app.core.settings import get_settings

SECONDS = 10.0
"""For one look at the folder; a large one on a slow network takes a few."""
AT_ONCE = 8
WAIT_SECONDS = 1.0
"""For a place, where all of them are held."""

_places = threading.BoundedSemaphore(AT_ONCE)

T = TypeVar("T")


def within_time(look: Callable[[], T]) -> T:
    """What `look` finds in the models folder or in the folder of a run's results.

    Raises:
        UnavailableError: it takes too long. Its thread goes on for as long as the disk lets it.
        What `look` raises.
    """
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise _silent()
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(look())
        except BaseException as error:
            found.set_exception(error)
        finally:
            _places.release()

    threading.Thread(target=run, name="models folder", daemon=True).start()
    try:
        return found.result(SECONDS)
    except TimeoutError:
        if found.done():  # raised by `look`
            raise
        raise _silent() from None


def _silent() -> UnavailableError:
    return UnavailableError(
        f"The models folder ({get_settings().models_path}) or that of the results does not answer. "
        "Is its disk, or the network that it is on, away?"
    )
