"""Chat templates as text: whether Jinja can read one, and which arguments it reads.

Only parsed here, never run: the web side checks a run's template before the run is queued, without
transformers. The syntax is that of transformers' chat templates.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

RESERVED = frozenset(
    {
        *("messages", "conversation", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "tokenizer_kwargs", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("sanitize_control_tokens", "strftime_now", "raise_exception"),
        *("caller", "cycler", "dict", "joiner", "kwargs", "lipsum", "loop", "namespace", "range"),
        *("self", "super", "varargs"),
    }
)
"""Names that are no arguments of a template: Chesboard, transformers or Jinja sets them."""

MAX_ARGUMENTS_CHARACTERS = 20_000


class _Generation(Extension):
    """The block `{% generation %}`, by which templates mark what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache
def _environment() -> jinja2.Environment:
    return ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
        optimized=False,  # else Jinja computes what is constant: `'a' * 10**11`
    )


def check_template(template: str) -> None:
    """Check that Jinja can read a template.

    Raises:
        ValueError: it cannot; the message says where.
    """
    try:
        _environment().compile(template, raw=True)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(
            f"This is no Jinja template: line {error.lineno}: {error.message}"
        ) from None
    except RecursionError:
        raise ValueError("This is no Jinja template: it is nested too deeply") from None


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check that arguments can be given to a template.

    Raises:
        ValueError: a name is reserved or no name of a variable, or the values are too large or
            hold a number that is not finite.
    """
    for name in arguments:
        if name in RESERVED:
            raise ValueError(f"`{name}` is reserved, so the template cannot be given it")
        if not name.isidentifier() or name.startswith("_") or _is_keyword(name):
            raise ValueError(f"`{name}` is not the name of a variable of a template")
    if not all(math.isfinite(number) for number in _floats(arguments)):
        raise ValueError("every number must be finite")
    if len(json.dumps(arguments)) > MAX_ARGUMENTS_CHARACTERS:
        raise ValueError(f"must be at most {MAX_ARGUMENTS_CHARACTERS:,} characters as JSON")


def unread_arguments(template: str, arguments: Mapping[str, Any]) -> list[str]:
    """The arguments that the template does not read, in their order."""
    read = meta.find_undeclared_variables(_environment().parse(template))
    return [name for name in arguments if name not in read]


def bind_arguments(template: str, arguments: Mapping[str, Any], *, as_defaults: bool) -> str:
    """The template with its arguments written at its beginning.

    as_defaults: an argument that whoever renders passes of that name takes precedence.
    """
    bound = [_assignment(name, value, as_defaults) for name, value in arguments.items()]
    # "+" keeps a line break with which the template begins.
    return "".join(f"{{% set {one} +%}}" for one in bound) + template


def _assignment(name: str, value: Any, as_default: bool) -> str:
    if as_default:
        return f"{name} = {literal(value)} if {name} is not defined or {name} is none else {name}"
    return f"{name} = {literal(value)}"


def literal(value: Any) -> str:
    """A JSON value as Jinja writes it."""
    match value:
        case None:
            return "none"
        case dict():
            return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _is_keyword(name: str) -> bool:
    try:
        _environment().parse(f"{{% set {name} = 1 %}}")
    except jinja2.TemplateSyntaxError:
        return True
    return False


def _floats(value: Any) -> list[float]:
    match value:
        case float():
            return [value]
        case Mapping():
            return [number for part in value.values() for number in _floats(part)]
        case list():
            return [number for part in value for number in _floats(part)]
    return []
