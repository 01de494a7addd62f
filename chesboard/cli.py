"""The command `chesboard`: `score` by the library alone, the server's commands where installed."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from chesboard.configs import ModelConfig, ScoreConfig
from chesboard.formats.columns import parse_mapping
from chesboard.formats.errors import ErrorItem, FormatError
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import read_rows
from chesboard.formats.rows import PairRow, RowError
from chesboard.formats.scores import WRITERS, ScoredPair
from chesboard.pairs import Pair

if TYPE_CHECKING:
    from chesboard.records import ScoreRecord

USAGE_ERROR = 2
NAMED_REJECTIONS = 20
SERVER_COMMANDS = ("backup", "demo", "migrate", "models", "restore", "up", "web", "worker")
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
        Path, typer.Argument(help="Preference pairs: JSONL, JSON, CSV or Parquet, each also .gz.")
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
    mapping: Annotated[
        str | None,
        typer.Option(
            help="JSON: which columns hold what, where their names are unknown: "
            '{"prompt": "q", "preferred": "good", "dispreferred": "bad"}.'
        ),
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
    listed with their number and reason, and left out.
    """
    try:
        config = ScoreConfig.model_validate(
            {
                "model": model,
                "dtype": dtype,
                "device": device,
                "max_prompt_tokens": max_prompt_tokens,
                "max_response_tokens": max_response_tokens,
                "batch_tokens": batch_tokens,
            }
        )
        _check_output(output, overwrite=overwrite)
        rows = _read(file, mapping)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(first["loc"][0]).split("_"))
        _fail(f"--{name}: {first['msg']}")
    except FormatError as error:
        _list_items(error.items)
        _fail(str(error))
    except OSError as error:
        _fail(str(error))
    records = _score(rows, config)
    scored = [ScoredPair(row, record) for row, record in zip(rows, records, strict=True)]
    with _replacing(output) as table:
        table.writelines(WRITERS[output.suffix](scored, with_text))
    noun = "pair" if len(scored) == 1 else "pairs"
    typer.echo(f"{output}: the scores of {len(scored):,} {noun}.", err=True)


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Before hours of scoring, not after them."""
    if output.suffix not in WRITERS:
        _fail(f"{output} must end in {', '.join(WRITERS)}: that says the format to write.")
    if output.exists() and not overwrite:
        _fail(f"{output} exists already. --overwrite replaces it.")
    if not os.access(output.absolute().parent, os.W_OK):
        _fail(f"{output.absolute().parent} is not a folder that can be written to.")


def _read(file: Path, mapping: str | None) -> list[PairRow]:
    """The usable rows; what is rejected is printed.

    Raises:
        FormatError: no pair in it, no preference file at all, or `mapping` is none.
    """
    reader = PairReader(parse_mapping(mapping))
    with file.open("rb") as source:
        found = list(reader.read(read_rows(source, file.name, sys.maxsize)))
    if reader.pairs == 0:
        raise reader.why_nothing_is_usable()
    rejected = [row for row in found if isinstance(row, RowError)]
    _list_items([row.as_item() for row in rejected])
    for sentence in reader.warnings:
        typer.echo(f"Warning: {sentence}", err=True)
    if rejected:
        typer.echo(f"{reader.rejected:,} of {len(found):,} rows were rejected.", err=True)
    return [row for row in found if isinstance(row, PairRow)]


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
        with _progress_bar() as report:
            return score(
                model,
                tokenizer,
                pairs,
                max_prompt_tokens=config.max_prompt_tokens,
                max_response_tokens=config.max_response_tokens,
                batch_tokens=config.batch_tokens,
                progress=report,
            )
    except (ModelError, MemoryError, ValueError) as error:
        _fail(str(error))


@contextlib.contextmanager
def _progress_bar() -> Iterator[Any]:
    """On standard error, with the time left by the share that is done; none in a pipe."""
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
        task = bar.add_task("Scoring pairs", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
