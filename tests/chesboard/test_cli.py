"""`chesboard score`: every kind of file in, every kind out, and what it refuses."""

import csv
import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import chesboard
from chesboard import cli
from chesboard.formats.scores import KINDS, WRITERS
from tests.tiny_models import build_llama, build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    {"prompt": "Is it green?", "chosen": "No", "rejected": "Never"},
    {"prompt": "Say = or so", "chosen": "=1+1", "rejected": "-2"},
    {"prompt": "Is the sky blue?", "chosen": "Yes, it is.", "rejected": "Yes, it was."},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(7)
    build_llama().save_pretrained(folder)
    build_tokenizer(chat=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(model):
    """As `chesboard.score` gives them."""
    pairs = [chesboard.Pair(row["prompt"], row["chosen"], row["rejected"]) for row in ROWS]
    loaded = AutoModelForCausalLM.from_pretrained(model)
    return chesboard.score(loaded, AutoTokenizer.from_pretrained(model), pairs)


def score(*arguments, status=0):
    done = CliRunner().invoke(cli.cli, ["score", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done.stderr


def written(path, rows):
    """The rows as a file of the kind that its name says."""
    data = "\n".join(map(json.dumps, rows)).encode()
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "json":
        data = json.dumps({"data": rows}).encode()
    elif suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        data = path.read_bytes()
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        data = path.read_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    types = {"integer": int, "number": float}
    with path.open(newline="") as file:
        return [
            {
                name: types[KINDS[name]](cell) if name in KINDS else cell
                for name, cell in row.items()
            }
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(
    ("source", "table"),
    [
        ("pairs.jsonl", "scores.csv"),
        ("pairs.jsonl.gz", "scores.parquet"),
        ("pairs.json", "scores.jsonl"),
        ("pairs.csv", "scores.csv"),
        ("pairs.csv.gz", "scores.jsonl"),
        ("pairs.parquet", "scores.parquet"),
        ("pairs.parquet.gz", "scores.csv"),
    ],
)
def test_every_kind_of_file_gives_the_scores_of_the_api(tmp_path, model, expected, source, table):
    file, output = written(tmp_path / source, ROWS), tmp_path / table
    said = score(file, "--model", model, "-o", output)
    assert said.endswith(f"{output}: the scores of 3 pairs.\n")
    found = read(output)
    assert list(found[0]) == list(KINDS)
    assert [row["pair"] for row in found] == [0, 1, 2]
    for row, record in zip(found, expected, strict=True):
        for name in KINDS.keys() - {"row"}:
            assert row[name] == getattr(record, name), name
    assert sorted(tmp_path.iterdir()) == sorted([file, output])


@pytest.mark.parametrize("table", ["scores.csv", "scores.jsonl", "scores.parquet"])
def test_texts_are_added_on_request_and_csv_is_guarded(tmp_path, model, table):
    output = tmp_path / table
    file = written(tmp_path / "a.jsonl", [*ROWS, {
        "prompt": [{"role": "user", "content": "Hi"}], "chosen": "a", "rejected": "b"
    }])  # fmt: skip
    score(file, "--model", model, "-o", output, "--with-text")
    found = read(output)
    apostrophe = "'" if table.endswith("csv") else ""
    assert found[1]["preferred"] == f"{apostrophe}=1+1"
    assert found[1]["dispreferred"] == f"{apostrophe}-2"
    assert found[1]["prompt"] == "Say = or so"
    prompt = found[3]["prompt"]
    assert (json.loads(prompt) if isinstance(prompt, str) else prompt) == [
        {"role": "user", "content": "Hi"}
    ]


@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_model_read_layer_by_layer_gives_the_same_table(
    tmp_path, model, expected, stream, caplog
):
    file = written(tmp_path / "pairs.jsonl", ROWS)
    output = tmp_path / "scores.jsonl"
    score(file, "--model", model, "-o", output, "--stream", stream, "--device", "cpu")
    assert ("read from disk one by one" in caplog.text) == (stream == "always")
    assert [row["ches"] for row in read(output)] == [record.ches for record in expected]


def test_a_word_that_says_nothing_of_layers_is_named(tmp_path, model):
    file = written(tmp_path / "pairs.jsonl", ROWS)
    output = tmp_path / "scores.jsonl"
    assert "--stream" in score(
        file, "--model", model, "-o", output, "--stream", "sometimes", status=2
    )


def test_rejected_rows_are_listed_with_their_reasons(tmp_path, model):
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    file = written(tmp_path / "a.jsonl", [ROWS[0], same, ROWS[1], *[same] * 25])
    said = score(file, "--model", model, "-o", tmp_path / "a.csv")
    assert "row 2: rejected the two responses are identical ('b')\n" in said
    assert "and 6 more\n26 of 28 rows were rejected.\n" in said
    assert [(row["pair"], row["row"]) for row in read(tmp_path / "a.csv")] == [(0, 1), (1, 3)]


def test_columns_are_named_by_a_mapping_and_limits_cut(tmp_path, model):
    file = written(tmp_path / "a.jsonl", [{"q": "x" * 90, "good": "yyyy", "bad": "zzzz"}])
    said = score(file, "--model", model, "-o", tmp_path / "a.jsonl.csv", status=2)
    assert "The columns found are q, good, bad." in said
    mapping = '{"prompt": "q", "preferred": "good", "dispreferred": "bad"}'
    score(
        file, "--model", model, "-o", tmp_path / "a.csv", "--mapping", mapping,
        "--max-prompt-tokens", 10, "--max-response-tokens", 3, "--batch-tokens", 16,
        "--dtype", "bfloat16", "--device", "cpu",
    )  # fmt: skip
    [row] = read(tmp_path / "a.csv")
    assert (row["prompt_tokens"], row["preferred_tokens"]) == (10, 3)
    assert row["cut_tokens"] > 80


def test_rule_makes_pairs_of_a_list_of_responses(tmp_path, model):
    answers = [{"answer": text, "rank": rank} for rank, text in enumerate(("x", "y", "z"), 1)]
    file = written(tmp_path / "a.jsonl", [{"prompt": "Q", "answers": answers}] * 2)
    said = score(file, "--model", model, "-o", tmp_path / "a.csv", "--pairing", "best_rest")
    assert "Each row holds 3 ranked responses (`answers`, by `rank`)" in said
    rows = [(row["pair"], row["row"]) for row in read(tmp_path / "a.csv")]
    assert rows == [(0, 1), (1, 1), (2, 2), (3, 2)]


def test_a_table_of_an_archive_is_named(tmp_path, model):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for split in ("train", "test"):
            archive.write(written(tmp_path / f"{split}.jsonl", ROWS), f"{split}.jsonl")
    said = score(file, "--model", model, "-o", tmp_path / "a.csv", status=2)
    assert "member" in said
    assert "train.jsonl, test.jsonl" in said
    score(file, "--model", model, "-o", tmp_path / "a.csv", "--member", "test.jsonl")
    assert len(read(tmp_path / "a.csv")) == 3


def test_output_is_not_overwritten_unless_asked(tmp_path, model):
    file = written(tmp_path / "a.jsonl", ROWS)
    output = tmp_path / "a.csv"
    output.write_text("mine")
    said = score(file, "--model", model, "-o", output, status=2)
    assert said == f"chesboard: {output} exists already. --overwrite replaces it.\n"
    assert output.read_text() == "mine"
    score(file, "--model", model, "-o", output, "--overwrite")
    assert len(read(output)) == 3


def test_pairs_that_the_template_of_the_call_refuses_are_listed_and_left_out(
    tmp_path, model, caplog
):
    template = tmp_path / "own.jinja"
    template.write_text(
        "{% if word in messages[0].content %}{{ raise_exception('not this') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    file, table = written(tmp_path / "a.jsonl", ROWS), tmp_path / "a.csv"
    options = ("--chat-template", template, "--chat-template-kwargs", '{"word": "green"}')
    said = score(file, "--model", model, "-o", table, *options)
    rows = read(table)
    assert len(rows) == len(ROWS) - 1
    assert "row 1: left out: the model cannot read it, as the warning says\n" in said
    assert "not this (its turns: user)" in caplog.text
    assert [str(row["pair"]) for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "missing.jsonl"}, "missing.jsonl"),
        ({"file": "archive.zip"}, "The zip archive is damaged"),
        ({"-o": "scores.xlsx"}, "must end in .csv, .jsonl, .parquet"),
        ({"-o": "no/folder/a.csv"}, "not a folder that can be written to"),
        ({"--dtype": "float8"}, "--dtype: Input should be 'auto'"),
        ({"--device": "tpu"}, "--device: "),
        ({"--device": "cuda:99"}, "There is no device cuda:99"),
        ({"--max-prompt-tokens": "0"}, "--max-prompt-tokens: "),
        ({"--pairing": "any"}, "`pairing` must be best_worst"),
        ({"--mapping": "[]"}, "`mapping` must be a JSON object"),
        ({"--chat-template": "missing.jinja"}, "missing.jinja"),
        (
            {"--chat-template": "archive.zip"},
            "--chat-template: Value error, This is no Jinja template",
        ),
        ({"--chat-template-kwargs": "{"}, "--chat-template-kwargs: not JSON"),
        ({"--chat-template-kwargs": "[]"}, "--chat-template-kwargs: an object is needed"),
        ({"--chat-template-kwargs": '{"tokenize": 1}'}, "`tokenize` is reserved"),
        ({"--model": "missing"}, "The model “missing” cannot be loaded"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_leaves_no_file(
    tmp_path, model, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    written(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "archive.zip").write_bytes(b"PK\x03\x04{% if %}")
    before = sorted(tmp_path.iterdir())
    given = {"file": "a.jsonl", "--model": model, "-o": "a.csv"} | changes
    file = given.pop("file")
    said = score(file, *[part for option in given.items() for part in option], status=2)
    last = said.splitlines()[-1]
    assert last.startswith("chesboard: ")
    assert message in last
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path, model, monkeypatch):
    def fail(*_):
        yield b"half"
        raise RuntimeError("disk full")

    monkeypatch.setitem(WRITERS, ".csv", fail)
    file, output = written(tmp_path / "a.jsonl", ROWS), tmp_path / "a.csv"
    output.write_text("old")
    score(file, "--model", model, "-o", output, "--overwrite", status=1)
    assert output.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [output, file]


BLOCKED = ("fastapi", "sqlalchemy", "psycopg", "celery", "redis", "pydantic_settings", "peft")


def test_without_the_server_from_a_folder_with_an_app_and_a_chesboard_of_its_own(tmp_path, model):
    for name in ("app", "chesboard", "worker", "pyarrow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported from here')")
    written(tmp_path / "a.parquet", ROWS)
    # As a console script: the current folder is not searched for modules.
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "from chesboard.cli import main; main()"
    )
    command = [sys.executable, "-P", "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = ["score", "a.parquet", "--model", str(model), "-o", "b.parquet"]
    done = subprocess.run(
        [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "b.parquet")) == 3
    # No bar where nobody looks at it.
    assert "Scoring pairs" not in done.stderr


class Entry:
    def __init__(self, load):
        self.load = load


def test_the_server_s_command_line_runs_where_it_is_installed(monkeypatch):
    ran = []
    entry = Entry(lambda: lambda: ran.append("server"))
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])
    cli.main()
    assert ran == ["server"]


def test_commands_of_a_server_that_is_not_installed_say_how_to_get_it(monkeypatch, capsys):
    def load():
        raise ModuleNotFoundError("No module named 'fastapi'")

    monkeypatch.setattr(cli, "entry_points", lambda group: [Entry(load)])
    monkeypatch.setattr(sys, "argv", ["chesboard", "up"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "pip install 'chesboard[server]'" in capsys.readouterr().err


def test_every_command_of_the_server_is_known_and_score_is_among_them():
    from app.cli import cli as server

    groups = [group.name for group in server.registered_groups]
    commands = [
        command.name or getattr(command.callback, "__name__", "")
        for command in server.registered_commands
    ]
    assert {*groups, *commands} == {*cli.SERVER_COMMANDS, "score", "sync"}


def test_a_dataset_of_the_hub_that_cannot_be_had_is_refused(tmp_path, model):
    out = tmp_path / "scores.csv"
    done = CliRunner().invoke(cli.cli, ["score", "hub:x", "--model", str(model), "-o", str(out)])
    assert done.exit_code == cli.USAGE_ERROR
    assert "Write hub:org/name" in done.stderr
    assert not out.exists()
