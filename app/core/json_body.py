"""JSON bodies of requests."""

from typing import Annotated, Any, TypeVar

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from app.core.errors import MOST_FIELD_ERRORS, TOO_MANY_ERRORS

T = TypeVar("T")


def _few_errors(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """The framework would describe each of a million wrong items, on its event loop, and answer
    with hundreds of megabytes."""
    try:
        return validate(value)
    except ValidationError as error:
        if error.error_count() <= MOST_FIELD_ERRORS:
            raise
        count = {"count": f"{error.error_count():,}"}
        raise PydanticCustomError("too_many_errors", TOO_MANY_ERRORS, count) from None


JsonBody = Annotated[T, WrapValidator(_few_errors)]
"""Of a route's parameter: the body is read as T. Of many errors their number alone is told."""
