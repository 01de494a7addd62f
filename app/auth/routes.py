"""The API of the tokens that record external runs."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.auth import recorders
from app.auth.authentication import LOCAL, visitor_of
from app.auth.recorders import MadeToken, RecorderTokenOut
from app.core.database import transaction
from app.core.json_body import JsonBody
from app.core.text import STORABLE_PATTERN, storable

router = APIRouter(tags=["recorder tokens"])


class NewToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, pattern=STORABLE_PATTERN),
        AfterValidator(storable),
    ] = Field("recorder", description="Whose or what for: the audit log names it.")


class RecorderTokenList(BaseModel):
    items: list[RecorderTokenOut]


@router.get("/recorder-tokens")
def list_tokens() -> RecorderTokenList:
    """The tokens that were made on this server, without the tokens themselves."""
    with transaction() as session:
        return RecorderTokenList(items=recorders.list_all(session))


@router.post("/recorder-tokens", status_code=201)
def make_token(request: Request, wanted: JsonBody[NewToken]) -> MadeToken:
    """Make an access token of the role recorder. It is in this answer alone.

    A server without tokens takes what any program on its machine sends; there it has no effect.
    """
    visitor = visitor_of(request)
    with transaction() as session:
        return recorders.make(session, wanted.name, visitor.name if visitor else LOCAL)


@router.delete("/recorder-tokens/{token_id}", status_code=204)
def delete_token(token_id: int) -> None:
    """From half a minute later on, nothing is taken with it."""
    with transaction() as session:
        recorders.remove(session, token_id)
