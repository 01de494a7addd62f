"""The small JSON files of a model's folder."""

import json
from pathlib import Path
from stat import S_ISREG
from typing import Any

from chesboard.model_files.headers import pointer_fault

_MOST_BYTES = 64 << 20


class FaultyFileError(ValueError):
    """A JSON file that cannot be read; the message names it and says what to do."""


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FaultyFileError: it is missing, not JSON, or no object.
    """
    try:
        stat = file.stat()
        if not S_ISREG(stat.st_mode):
            raise FaultyFileError(f"{file.name} is no file: put the model's there.")
        if stat.st_size > _MOST_BYTES:
            raise FaultyFileError(f"{file.name} is too large to be a configuration.")
        content = file.read_bytes()
    except FileNotFoundError:
        raise FaultyFileError(f"{file.name} is missing: copy it from the model.") from None
    except OSError as error:
        raise FaultyFileError(f"{file.name} cannot be read: {error.strerror}.") from error
    if fault := pointer_fault(file, content[:64]):
        raise FaultyFileError(fault)
    if not content.strip():
        raise FaultyFileError(f"{file.name} is empty: copy or download it again.")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FaultyFileError(
            f"{file.name} is damaged, it is not JSON ({error}): copy or download it again."
        ) from None
    if not isinstance(value, dict):
        raise FaultyFileError(f"{file.name} holds no JSON object: copy or download it again.")
    return value


def find_json_fault(file: Path) -> str | None:
    """Why a JSON file of any size is not whole, judged by both its ends; None if it may be."""
    if not file.is_file():  # a pipe would never end
        return f"{file.name} is no file: put the model's there."
    with file.open("rb") as opened:
        start = opened.read(64)
        opened.seek(max(0, file.stat().st_size - 64))
        end = opened.read()
    if fault := pointer_fault(file, start):
        return fault
    if start.lstrip()[:1] == b"{" and end.rstrip()[-1:] == b"}":
        return None
    return f"{file.name} is cut off or damaged, it is no whole JSON: copy or download it again."
