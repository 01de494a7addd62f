"""Editing the texts of a pair: checks, and the versions in which every text is kept."""

from sqlalchemy.orm import Session

from app.core.errors import ErrorItem, InvalidInputError
from app.core.text import storable
from app.datasets.issues import check_edited
from app.reviews.schemas import PairEdit
from app.store.datasets import Pair
from app.store.reviews import PairVersion
from chesboard.pairs import Message, Prompt


def check_edit(row: Pair, wanted: PairEdit) -> tuple[Prompt, str, str]:
    """The prompt, the preferred and the dispreferred response after the edit.

    Raises:
        InvalidInputError: a text is empty, the responses are identical, or nothing changes.
    """
    prompt = row.prompt if wanted.prompt is None else wanted.prompt
    preferred = row.preferred if wanted.preferred is None else wanted.preferred
    dispreferred = row.dispreferred if wanted.dispreferred is None else wanted.dispreferred
    errors: list[ErrorItem] = []
    for field, parts in {
        "prompt": _prompt_texts(prompt, row.prompt),
        "preferred": [preferred],
        "dispreferred": [dispreferred],
    }.items():
        if parts is None:
            message = "must be text, or chat messages with a `role` and a `content`"
        elif not any(part.strip() for part in parts):
            message = "must not be empty"
        elif error := _storage_error(parts):
            message = error
        else:
            continue
        errors.append({"field": field, "message": message})
    if not errors and preferred == dispreferred:
        errors = [{"field": "dispreferred", "message": "is identical to the preferred response"}]
    if not errors and (prompt, preferred, dispreferred) == (
        row.prompt,
        row.preferred,
        row.dispreferred,
    ):
        errors = [{"field": "preferred", "message": "no text was changed"}]
    if errors:
        first = errors[0]
        raise InvalidInputError(f"{first['field']}: {first['message']}", errors)
    return prompt, preferred, dispreferred


def _prompt_texts(prompt: Prompt, before: Prompt) -> list[str] | None:
    """The texts of a prompt; None if its chat messages are malformed.

    Of other fields, such as tool calls, a message has those of a message of the prompt `before`.
    """
    if isinstance(prompt, str):
        return [prompt]
    kept = [_more(turn) for turn in before] if isinstance(before, list) else []
    for turn in prompt:
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not role or not isinstance(content, str):
            return None
        if _more(turn) and _more(turn) not in kept:
            return None
    return [turn["content"] for turn in prompt]


def _more(turn: Message) -> Message:
    return {name: value for name, value in turn.items() if name not in ("role", "content")}


def _storage_error(parts: list[str]) -> str | None:
    try:
        for part in parts:
            storable(part)
    except ValueError as error:
        return str(error)
    return None


def replace(
    session: Session,
    row: Pair,
    prompt: Prompt,
    preferred: str,
    dispreferred: str,
    reviewer: str | None,
) -> None:
    """Store these as the pair's texts under a new version; earlier versions are kept."""
    if row.version == 1:  # the file's text has no row until it is replaced
        session.add(_version_of(row, None))
    row.prompt, row.preferred, row.dispreferred = prompt, preferred, dispreferred
    row.version += 1
    session.add(_version_of(row, reviewer or None))
    check_edited(session, row)
    session.flush()


def _version_of(row: Pair, reviewer: str | None) -> PairVersion:
    return PairVersion(
        dataset_id=row.dataset_id,
        pair=row.pair,
        version=row.version,
        prompt=row.prompt,
        preferred=row.preferred,
        dispreferred=row.dispreferred,
        reviewer=reviewer,
    )


def restore(session: Session, row: Pair, version: int, reviewer: str | None) -> None:
    """Store an older version of the texts again, as the newest version."""
    older = session.get_one(PairVersion, (row.dataset_id, row.pair, version))
    replace(session, row, older.prompt, older.preferred, older.dispreferred, reviewer)
