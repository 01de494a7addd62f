"""The form of a row: by the names of its columns, or by what they hold."""

from collections.abc import Mapping
from typing import Any

from chesboard.formats.candidates import recognize_candidates, with_path
from chesboard.formats.columns import Columns
from chesboard.formats.known_forms import recognize
from chesboard.formats.unpaired import recognize_unpaired


def recognize_row(cells: Mapping[str, Any]) -> Columns | None:
    """The roles of a row's columns, if they make up a known form."""
    found = recognize(cells) or recognize_candidates(cells) or recognize_unpaired(cells)
    return found and with_path(found, cells)
