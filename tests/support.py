"""What the fixtures are made of: servers, a tiny model, a whole running stack, a browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import OperationalError

from app.core.settings import Settings
from app.local.embedded import Services, free_port, start_services
from app.local.migrate import METADATA
from app.local.pull import STARTER_MODEL, is_pulled
from tests import PROJECT_ROOT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# --- servers ----------------------------------------------------------------------------------


@contextmanager
def disposable_services() -> Iterator[Services]:
    """The servers named by the environment, or embedded ones in a folder that is thrown away."""
    database_url = os.environ.get("CHESBOARD_TEST_DATABASE_URL")
    redis_url = _own_redis()
    if database_url and redis_url:
        with scratch_database(database_url, "chesboard_test") as url:
            _flush(redis_url)
            yield Services(url, redis_url, stop=lambda: None)
            _flush(redis_url)
        return
    with short_folder() as folder:
        services = start_services(embedded_settings(folder), durable=False)
        try:
            yield services
        finally:
            services.stop()


def _own_redis(*, of_the_stack: bool = False) -> str | None:
    """The Redis that the environment names, at a database of this test process's own.

    A running stack has another one: its workers would take the messages that tests count.
    """
    url = os.environ.get("CHESBOARD_TEST_REDIS_URL")
    if url is None:
        return None
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    server, _, number = url.rpartition("/")
    return f"{server}/{int(number) + 2 * worker + of_the_stack}"


def embedded_settings(data_dir: Path) -> Settings:
    """Settings for embedded servers in a folder, whatever the environment says."""
    settings = Settings(data_dir=data_dir)
    return settings.model_copy(update={"database_url": None, "redis_url": None})


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets, which pytest's own are not always."""
    folder = Path(tempfile.mkdtemp(prefix="chesboard-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_database(server_url: str, name: str, template: str | None = None) -> Iterator[str]:
    """The URL of a new database on a server; dropped in the end.

    Its name is this test process's own: others may use the same server at the same time.

    template: the URL of a database that the new one is a copy of; nobody may be connected to it.
    """
    name = f"{name}_{os.getpid()}"
    source = "template1" if template is None else make_url(template).database
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        try:
            yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _flush(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()


# TRUNCATE makes new files for a table and each of its indexes, which for all tables takes several
# times as long as deleting the few rows of a test. What is deleted keeps its space: past this, the
# tables are truncated.
DELETED_AT_MOST_BYTES = 512 * 1024


def empty_tables(connection: Connection) -> None:
    """Empty every table and restart its ids. A transaction left open elsewhere is an error."""
    names = [f'"{table.name}"' for table in METADATA.sorted_tables]
    connection.execute(text("SET LOCAL lock_timeout = '10s'"))
    connection.execute(text(f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"))
    sizes = connection.execute(
        text(" UNION ALL ".join(f"SELECT '{name}', pg_relation_size('{name}')" for name in names))
    )
    written = {name: size for name, size in sizes if size}
    if sum(written.values()) > DELETED_AT_MOST_BYTES:
        connection.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE"))
        return
    # Every table is emptied, so no foreign key needs its check.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    for name in written:
        connection.execute(text(f"DELETE FROM {name}"))
    connection.execute(
        text(
            "SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) "
            "FROM pg_sequences WHERE last_value IS NOT NULL"
        )
    )


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so, for what happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


# --- access tokens ----------------------------------------------------------------------------

HOME = "http://127.0.0.1:8000"
OPERATOR_TOKEN = "correct horse battery staple"
REVIEWER_TOKEN = "a reviewer's long token"
VIEWER_TOKEN = "a viewer's long token"
ADAS_TOKEN = "adas-own-long-token"


def database_is_away() -> OperationalError:
    """The error of a connection that could not be made."""
    return OperationalError(None, None, psycopg.OperationalError("connection refused"))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# --- a whole stack ----------------------------------------------------------------------------

STACK_SECONDS = 180


@contextmanager
def running_stack(models_dir: Path) -> Iterator[str]:
    """`chesboard up` as a user starts it; yields its address once everything answers.

    On the servers named by the environment, in a database of its own, or on embedded ones.
    """
    with short_folder() as folder, _servers_of_a_stack() as servers:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--port", str(port)],
            env=stack_environment(folder, models_dir) | servers,
            cwd=PROJECT_ROOT,
            stdout=(output := (folder / "up.log").open("wb")),
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(process, address, folder / "up.log")
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()
            output.close()
            # pytest shows this where a test failed.
            sys.stderr.write((folder / "up.log").read_text(errors="replace")[-20_000:])


@contextmanager
def _servers_of_a_stack() -> Iterator[dict[str, str]]:
    database_url = os.environ.get("CHESBOARD_TEST_DATABASE_URL")
    redis_url = _own_redis(of_the_stack=True)
    if not (database_url and redis_url):
        yield {}
        return
    with scratch_database(database_url, "chesboard_stack") as url:
        _flush(redis_url)
        yield {"DATABASE_URL": url, "REDIS_URL": redis_url}
        _flush(redis_url)


def stack_environment(data_dir: Path, models_dir: Path) -> dict[str, str]:
    """This process's environment, without what would name other servers or folders."""
    ours = ("CHESBOARD_", "DATABASE_URL", "REDIS_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return environment | {
        "CHESBOARD_DATA_DIR": str(data_dir),
        "CHESBOARD_MODELS_DIR": str(models_dir),
        # A third of the default, so that a test that kills a worker waits less for the next.
        "CHESBOARD_LEASE": "PT10S",
    }


def _wait_until_healthy(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + STACK_SECONDS
    while not healthy(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"chesboard up did not become healthy:\n{log.read_text()}")
        time.sleep(0.1)


def healthy(address: str) -> bool:
    """Whether web, database, broker and at least one worker answer."""
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=2) as response:
            return bool(json.load(response)["workers"])
    except (OSError, urllib.error.URLError):
        return False


# --- models -----------------------------------------------------------------------------------

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS_TEMPLATE = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + CHAT_TEMPLATE
)
# Each of these becomes one token of the tiny model.
TINY_WORDS = ["Yes", "No", "Never", "Sure", "Certainly", "Maybe", "Perhaps"]


def kept_models_folder() -> Path:
    """Where tests keep the starter model: the one that was pulled for use, or a cache."""
    if folder := os.environ.get("CHESBOARD_TEST_MODELS"):
        return Path(folder)
    pulled = PROJECT_ROOT / "chesboard-data" / "models"
    if is_pulled(STARTER_MODEL, pulled):
        return pulled
    return Path.home() / ".cache" / "chesboard-tests"


def save_tiny_model(folder: Path) -> None:
    """A two-layer random Llama with a byte-level tokenizer and a chat template, as safetensors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TINY_WORDS * 10, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


# --- browser ----------------------------------------------------------------------------------

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return None


def give_up_as_a_tokenizer_does() -> None:
    """Raises what tokenizers, which is written in Rust, raises where it panics: no Exception."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.FixedLength(0)
    tokenizer.encode("a")
