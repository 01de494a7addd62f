"""The command `chesboard`: `score` by the library alone, the server's commands where installed."""

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from chesboard.configs import ModelConfig, ScoreConfig
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.mapping import parse_mapping
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.pairing import parse_pairing
from chesboard.formats.reading import Rows, open_rows
from chesboard.formats.rows import PairRow, RowError
from chesboard.formats.scores import WRITERS, ScoredPair
from chesboard.hub import PREFIX
from chesboard.pairs import Pair

if TYPE_CHECKING:
    from chesboard.records import ScoreRecord

USAGE_ERROR = 2
NAMED_REJECTIONS = 20
SERVER_COMMANDS = ("backup", "demo", "migrate", "models", "restore", "study", "up", "web", "worker")
GROUP = "chesboard.commands"
"""Entry points whose object runs the whole command line, `score` included."""

DEFAULTS = ModelConfig()


class _LibraryGroup(TyperGroup):
    """Says how to install a command of the server."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in SERVER_COMMANDS:
            _fail(
                f"`chesboard {args[0]}` is a command of the server, which is not installed: "
                "pip install 'chesboard[server]'"
            )
        return super().resolve_command(ctx, args)


cli = typer.Typer(
    cls=_LibraryGroup,
    help="Measure likelihood displacement in preference training.",
    epilog="More commands (up, demo, …) come with the server: pip install 'chesboard[server]'",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@cli.callback()
def _with_subcommands() -> None:
    """Measure likelihood displacement in preference training."""


@cli.command()
def score(
    file: Annotated[
        str,
        typer.Argument(
            help="Preference pairs: JSONL, JSON, CSV, Parquet or Arrow, also compressed or in an "
            "archive; or a dataset of the hub, as hub:org/name/split or "
            "hub:org/name/config/split@revision."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A folder of safetensors with its tokenizer, a .gguf file, or a hub name.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The table to write: .csv, .jsonl or .parquet."),
    ],
    revision: Annotated[
        str | None,
        typer.Option(help="Of a hub name: a branch, a tag or a commit.", show_default="main"),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="auto, float32 or bfloat16. auto: float32 on a CPU, bfloat16 on a GPU."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    max_prompt_tokens: Annotated[
        int, typer.Option(help="Longer prompts are cut at the left.")
    ] = DEFAULTS.max_prompt_tokens,
    max_response_tokens: Annotated[
        int, typer.Option(help="Longer responses are cut at the right.")
    ] = DEFAULTS.max_response_tokens,
    batch_tokens: Annotated[
        int, typer.Option(help="Token budget of a forward pass. Affects speed and memory only.")
    ] = DEFAULTS.batch_tokens,
    stream: Annotated[
        str,
        typer.Option(
            help="auto, always or never: keep one layer of the model in memory at a time, read "
            "from disk. auto: where the model does not fit."
        ),
    ] = "auto",
    mapping: Annotated[
        str | None,
        typer.Option(
            help="JSON: which columns hold what, where their names are unknown: "
            '{"prompt": "q", "preferred": "good", "dispreferred": "bad"}.'
        ),
    ] = None,
    pairing: Annotated[
        str | None,
        typer.Option(
            help="How rows with several responses make pairs: best_worst, best_rest, all, or "
            "gap:1.5, the least difference of ratings.",
            show_default=False,
        ),
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(help="Which table to read, where the file is an archive of several."),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(help="A file with a chat template (Jinja) in place of the model's own."),
    ] = None,
    chat_template_kwargs: Annotated[
        str | None,
        typer.Option(help='JSON: arguments of the chat template: {"enable_thinking": false}.'),
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Add the texts of each pair to the table.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output file if it exists.")
    ] = False,
) -> None:
    """Score preference pairs: CHES, its relatives and log-probabilities, a row a pair.

    The same numbers as a score run of the server, without one. Rows that are no pairs are
    listed with their number and reason, and left out, and so are pairs that the model cannot read:
    its chat template refuses the prompt, or it has no embedding of a token.
    """
    try:
        config = ScoreConfig.model_validate(
            {
                "model": model,
                "revision": revision,
                "dtype": dtype,
                "device": device,
                "max_prompt_tokens": max_prompt_tokens,
                "max_response_tokens": max_response_tokens,
                "batch_tokens": batch_tokens,
                "stream": stream,
                "chat_template": chat_template and chat_template.read_text("utf-8"),
                "chat_template_kwargs": _parse_arguments(chat_template_kwargs),
            }
        )
        _check_output(output, overwrite=overwrite)
        rows = _read(file, mapping, pairing, member)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(first["loc"][0]).split("_"))
        _fail(f"--{name}: {first['msg']}")
    except FormatError as error:
        _list_items(error.items)
        _fail(str(error))
    except UnicodeDecodeError:
        _fail(f"--chat-template: {chat_template} is not text in UTF-8.")
    except OSError as error:
        _fail(str(error))
    records = _score(rows, config)
    scored = [ScoredPair(rows[record.pair], record) for record in records]
    measured = {record.pair for record in records}
    _list_items(
        [
            {"row": row.row, "message": "left out: the model cannot read it, as the warning says"}
            for number, row in enumerate(rows)
            if number not in measured
        ]
    )
    with _replacing(output) as table:
        table.writelines(WRITERS[output.suffix](scored, with_text))
    noun = "pair" if len(scored) == 1 else "pairs"
    typer.echo(f"{output}: the scores of {len(scored):,} {noun}.", err=True)


@cli.command()
def sync(
    folder: Annotated[
        Path,
        typer.Argument(
            help="The folder of a run's records, or one that holds several: OUTPUT_DIR/chesboard."
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until every run has ended; Ctrl-C stops.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="The server's address.", show_default="CHESBOARD_URL")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="An access token of the role recorder.", show_default="CHESBOARD_TOKEN"),
    ] = None,
) -> None:
    """Send the records of runs that were trained elsewhere to a server.

    What was sent before is not sent again. The training may still go on.
    """
    from chesboard.client.environment import ClientError, access_token, address
    from chesboard.client.spool import runs
    from chesboard.client.sync import sync as send
    from chesboard.client.wire import Wire

    try:
        server = address(url)
    except ClientError as error:
        _fail(str(error))
    if server is None:
        _fail("which server? Set CHESBOARD_URL, or give --url http://127.0.0.1:8000.")
    if not watch and not runs(folder):
        _fail(f"{folder} holds no records of a run. They are in OUTPUT_DIR/chesboard/KEY.")
    wire = Wire(server, access_token(token))
    try:
        found = send(folder, wire, watch=watch, say=lambda text: typer.echo(text, err=True))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        wire.close()
    for one in found:
        where = one.page or "not sent"
        typer.echo(f"{one.folder}: {where}" + (f". {one.problem}" if one.problem else ""))
    if any(one.problem for one in found):
        raise typer.Exit(1)


def _parse_arguments(text: str | None) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except ValueError as error:
        _fail(f"--chat-template-kwargs: not JSON: {error}")
    if not isinstance(arguments, dict):
        _fail('--chat-template-kwargs: an object is needed: {"enable_thinking": false}.')
    return arguments


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Before hours of scoring, not after them."""
    if output.suffix not in WRITERS:
        _fail(f"{output} must end in {', '.join(WRITERS)}: that says the format to write.")
    if output.exists() and not overwrite:
        _fail(f"{output} exists already. --overwrite replaces it.")
    if not os.access(output.absolute().parent, os.W_OK):
        _fail(f"{output.absolute().parent} is not a folder that can be written to.")


def _read(file: str, mapping: str | None, pairing: str | None, member: str | None) -> list[PairRow]:
    """The usable rows; what is rejected is printed.

    Raises:
        FormatError: no pair in it, no preference file at all, or `mapping` or `pairing` is none.
    """
    reader = PairReader(parse_mapping(mapping), parse_pairing(pairing))
    with _opened(file, member) as (rows, warnings):
        found = list(reader.read(rows))
    if reader.pairs == 0:
        raise reader.why_nothing_is_usable()
    rejected = [row for row in found if isinstance(row, RowError)]
    _list_items([row.as_item() for row in rejected])
    for sentence in reader.notes:
        typer.echo(sentence, err=True)
    for sentence in (*warnings, *reader.warnings):
        typer.echo(f"Warning: {sentence}", err=True)
    if rejected:
        typer.echo(f"{reader.rejected:,} of {reader.rows:,} rows were rejected.", err=True)
    return [row for row in found if isinstance(row, PairRow)]


@contextlib.contextmanager
def _opened(file: str, member: str | None) -> Iterator[tuple[Rows, Iterable[str]]]:
    """(rows of a file or of a dataset of the hub, warnings on it, complete after the rows)"""
    if file.startswith(PREFIX):
        with _of_hub(file) as found:
            yield found
        return
    path = Path(file)
    with path.open("rb") as source:
        opened = open_rows(source, path.name, sys.maxsize, member=member)
        yield opened.rows, opened.warnings


@contextlib.contextmanager
def _of_hub(named: str) -> Iterator[tuple[Rows, Iterable[str]]]:
    # The client of the hub takes a second to import.
    from chesboard.hub.errors import HubError
    from chesboard.hub.rows import rows_named

    typer.echo(f"Downloading {named}", err=True)
    try:
        with rows_named(named, sys.maxsize, lambda _: None) as found:
            yield found
    except HubError as error:
        _fail(str(error))


def _list_items(items: Sequence[ErrorItem]) -> None:
    for item in items[:NAMED_REJECTIONS]:
        typer.echo(_in_words(item), err=True)
    if len(items) > NAMED_REJECTIONS:
        typer.echo(f"and {len(items) - NAMED_REJECTIONS:,} more", err=True)


def _in_words(item: ErrorItem) -> str:
    row = f"row {item['row']}: " if "row" in item else ""
    field = f"{item['field']} " if "field" in item else ""
    snippet = f" ({item['snippet']!r})" if "snippet" in item else ""
    return f"{row}{field}{item['message']}{snippet}"


def _score(rows: list[PairRow], config: ScoreConfig) -> "list[ScoreRecord]":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    typer.echo(f"Loading {config.model}", err=True)
    from chesboard.api import score
    from chesboard.loading import ModelError, load

    pairs = [Pair(row.prompt, row.preferred, row.dispreferred) for row in rows]
    try:
        model, tokenizer = load(config)
        with _progress_bar() as (report, report_layers):
            return score(
                model,
                tokenizer,
                pairs,
                max_prompt_tokens=config.max_prompt_tokens,
                max_response_tokens=config.max_response_tokens,
                batch_tokens=config.batch_tokens,
                chat_template=config.chat_template,
                chat_template_kwargs=config.chat_template_kwargs,
                on_refused="skip",
                progress=report,
                layer_progress=report_layers,
            )
    except (ModelError, MemoryError, ValueError) as error:
        _fail(str(error))


@contextlib.contextmanager
def _progress_bar() -> Iterator[Any]:
    """For pairs and for layers that are read one by one: on standard error, with the time left by
    the share that is done; none in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        pairs = bar.add_task("Scoring pairs", total=None)
        layers = bar.add_task("Reading layers", total=None, visible=False)
        yield (
            lambda done, total: bar.update(pairs, completed=done, total=total),
            lambda done, total: bar.update(layers, completed=done, total=total, visible=True),
        )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` once it is complete, and else is removed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp's is for the owner alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _fail(message: str) -> NoReturn:
    typer.echo(f"chesboard: {message}", err=True)
    raise typer.Exit(USAGE_ERROR)


def main() -> None:
    """Run the server's command line, which holds `score` too, or `score` alone without it."""
    for entry in entry_points(group=GROUP):
        try:
            run = entry.load()
        except ModuleNotFoundError:
            continue  # declared by the wheel, but its extra is not installed
        run()
        return
    cli()


if __name__ == "__main__":
    main()
