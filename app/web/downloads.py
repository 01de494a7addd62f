"""Downloads of rows: their media types, file names, and the parameters that choose them."""

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import StreamingResponse

from app.core.exports import RowFormat
from app.core.text import STORABLE_PATTERN
from app.store.lookup import MAX_ORDINAL

Format = Annotated[
    Literal["json", "csv", "jsonl"],
    Query(
        description="csv and jsonl download all rows that match, one a line, and ignore offset and "
        "limit."
    ),
]
PairParameter = Annotated[
    int | None, Query(ge=0, le=MAX_ORDINAL, description="Only what belongs to this pair.")
]
SearchParameter = Annotated[
    str | None,
    Query(
        max_length=500,
        pattern=STORABLE_PATTERN,
        description="Only answers that contain this text, in upper or lower case.",
    ),
]

_MEDIA: dict[RowFormat, str] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


def download(lines: Iterable[str], name: str, format: RowFormat) -> StreamingResponse:
    """Streams an export as a file. name: of the file, without its ending."""
    return StreamingResponse(
        lines,
        media_type=_MEDIA[format],
        headers={"Content-Disposition": f'attachment; filename="{name}.{format}"'},
    )
