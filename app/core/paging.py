"""Bounds that pages and downloads of rows share."""

from typing import Annotated

from pydantic import Field

Offset = Annotated[int, Field(ge=0, lt=2**63)]
"""How many rows a page skips; bounded by PostgreSQL's bigint."""

PAGE_SIZE = 50
"""Default number of items of a page."""

EXPORT_ROWS = 100
"""Rows that a download fetches from the database at a time, so that it is never held as a whole."""
