"""The command line of the server. Each command imports what is heavy by itself."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import AliasChoices, ValidationError

from app.core import logging as logs
from app.core.settings import Settings
from app.local.errors import SetupError
from chesboard.cli import score, sync

USAGE_ERROR = 2
FULL = (errno.ENOSPC, errno.EDQUOT)


def _environment_help() -> str:
    """The list of settings by environment variable."""
    lines = ["\b", "Settings are read from the environment:"]
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = f"CHESBOARD_{name.upper()}"
        if isinstance(alias, AliasChoices):
            variable = str(alias.choices[0])
        lines.append(f"  {variable:<26} {field.description}")
    return "\n".join(lines)


cli = typer.Typer(
    help="A live dashboard for likelihood displacement in preference training.",
    epilog=_environment_help(),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Models that runs can use.", no_args_is_help=True)
cli.add_typer(models, name="models")
cli.command()(score)  # the library's, which need no server
cli.command()(sync)

HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on.")]


@cli.command()
def up(host: HostOption = None, port: PortOption = None) -> None:
    """Start everything: PostgreSQL, Valkey, a worker and the web server, until Ctrl-C."""
    from app.local.stack import Stack

    settings = _settings(host=host, port=port)
    with Stack(settings) as stack:
        stack.wait_ready()
        with suppress(KeyboardInterrupt):  # who has read the line may press it at once
            typer.echo(f"Chesboard is at {stack.url} - Ctrl-C stops it.")
            _say_how_to_get_a_model(settings)
            stack.run_forever()
        typer.echo("Stopping: the current run returns to the queue.")


@cli.command()
def web(host: HostOption = None, port: PortOption = None) -> None:
    """Start the web server alone, on the services at DATABASE_URL and REDIS_URL."""
    from app.local.stack import check_exposure, check_port, web_command

    settings = _settings(host=host, port=port)
    _require_services(settings)
    check_exposure(settings)
    check_port(settings)
    # The application reads its settings from the environment.
    os.environ.update(CHESBOARD_HOST=settings.host, CHESBOARD_PORT=str(settings.port))
    _become(web_command(settings))


@cli.command()
def worker(
    gpus: Annotated[
        int | None,
        typer.Option(
            help="Train each model on so many GPUs of this machine: as many processes, one for "
            "each (on a machine without GPUs they share the CPU, to try it). Other runs take one."
        ),
    ] = None,
    seats: Annotated[
        int | None,
        typer.Option(
            help="Train each model together with other workers, on other machines: so many in "
            "all, each started with the same --gpus and --seats. They have to share the data "
            "folder."
        ),
    ] = None,
) -> None:
    """Start one worker, on the services at DATABASE_URL and REDIS_URL."""
    from app.local.gpus import claim_gpus
    from app.local.stack import worker_command

    settings = _settings(gpus=gpus, seats=seats)
    _require_services(settings)
    claim_gpus(settings.data_dir / "gpus", settings.gpus)
    # The worker reads its settings from the environment.
    os.environ.update(CHESBOARD_GPUS=str(settings.gpus), CHESBOARD_SEATS=str(settings.seats))
    _become(worker_command(settings))


@cli.command()
def migrate() -> None:
    """Migrate the database at DATABASE_URL to the newest schema. (`up` does so by itself.)"""
    from app.local.migrate import upgrade

    upgrade(_required(_settings().required_database_url))
    typer.echo("The database is up to date.")


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; it must not exist.")],
) -> None:
    """Write the database, checkpoints and results to one file, also while runs are under way."""
    from app.local.backup.create import back_up
    from app.local.postgres import reachable_database

    settings = _settings()
    with reachable_database(settings) as url:
        made = back_up(url, settings.runs_path, file)
    typer.echo(f"{file}: {made.rows:,} rows and {len(made.files)} files.")


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `chesboard backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace existing data.")] = False,
) -> None:
    """Restore a backup, all or nothing. Stop Chesboard first."""
    from app.local.backup.restore import restore_all
    from app.local.postgres import reachable_database

    settings = _settings()
    with reachable_database(settings, exclusive=True) as url:
        made = restore_all(url, settings.runs_path, file, force=force)
    typer.echo(f"Restored {made.rows:,} rows and {len(made.files)} files of {made.created_at}.")


@cli.command()
def demo(
    stay: Annotated[
        bool, typer.Option("--stay/--quit", help="Keep serving when the demo is done, or stop.")
    ] = True,
    browser: Annotated[bool, typer.Option(help="Open the live page in a browser.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short runs, to check the installation.")
    ] = False,
) -> None:
    """Train a small model on three pairs, "No" over "no" first, and see where the mass goes."""
    from app.local.demo import DemoError, run_demo

    try:
        run_demo(_settings(), stay=stay, open_browser=browser, quick=quick)
    except DemoError as error:
        raise SetupError(str(error)) from error


@cli.command()
def study(
    plan: Annotated[Path, typer.Argument(help="A plan, as a study's page offers it.")],
    url: Annotated[
        str | None, typer.Option(help="Address of a running Chesboard. Default: this machine's.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Access token of an operator. Default: the configured one.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow the study to its end.")] = True,
) -> None:
    """Run a study on a running Chesboard: its plan makes runs and ends in a table."""
    from app.local.study import run_study

    settings = _settings()
    address = (url or f"http://{settings.host}:{settings.port}").rstrip("/")
    run_study(settings, address, plan, token=token, wait=wait)


@models.command("pull")
def pull_model(
    name: Annotated[str | None, typer.Argument(help="Default: the starter model.")] = None,
) -> None:
    """Download a model into the models folder."""
    from app.local.pull import STARTER_MODEL, pull

    name, folder = name or STARTER_MODEL, _settings().models_path
    typer.echo(f"Looking for {name} in {folder}; downloading it if it is missing.")
    typer.echo(f"{pull(name, folder)} is complete.")


def _settings(**options: Any) -> Settings:
    """The settings; command-line options override the environment."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SetupError(f"The setting {name} is invalid: {first['msg']}.") from None
    logs.configure(settings, "main")
    return settings


def _require_services(settings: Settings) -> None:
    _required(settings.required_database_url)
    _required(settings.required_redis_url)


def _required(get: Any) -> str:
    try:
        return str(get())
    except RuntimeError as error:
        raise SetupError(str(error)) from None


def _say_how_to_get_a_model(settings: Settings) -> None:
    folder = settings.models_path
    if not folder.is_dir() or not any(folder.iterdir()):
        typer.echo(f"There is no model in {folder} yet: `chesboard models pull` downloads one.")


def _become(command: list[str]) -> None:
    """Replace this process by another program, which then receives its signals."""
    os.execv(command[0], command)  # noqa: S606 - no shell; the command is ours


def main() -> None:
    """Run a command; a SetupError or a full disk is printed as one line, with exit status 2."""
    try:
        cli()
    except SetupError as error:
        typer.echo(f"chesboard: {error}", err=True)
        raise SystemExit(USAGE_ERROR) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(
            f"chesboard: {error.strerror}{where}. Free space there, and try again.", err=True
        )
        raise SystemExit(USAGE_ERROR) from None


if __name__ == "__main__":
    main()
