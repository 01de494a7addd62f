"""Splits of a repository, by its card and by the names of its files."""

import pytest

from chesboard.hub.splits import HubFile, find_splits, matches


def found(*paths: str, card: dict | None = None) -> dict[str, list[str]]:
    """{config/split: paths} of files of one byte."""
    splits = find_splits([HubFile(path, 1) for path in paths], card)
    return {f"{one.config}/{one.name}": [file.path for file in one.files] for one in splits}


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00001.parquet", "default/train"),
        ("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", "default/train"),
        ("train.jsonl", "default/train"),
        ("train.json.gz", "default/train"),
        ("default/train/0000.parquet", "default/train"),
        ("en/partial-train/0000.parquet", "en/partial-train"),
        ("data/en/test-00000-of-00001.parquet", "en/test"),
        ("train/part-00000-0c1d.c000.snappy.parquet", "default/train"),
        ("test/answers.csv", "default/test"),
        ("test/answers.psv", "default/test"),
        ("train/data-00000-of-00002.arrow", "default/train"),
        ("en/train.orc", "en/train"),
        *(
            (f"helpful-base/train.jsonl{suffix}", "helpful-base/train")
            for suffix in (".gz", ".bz2", ".xz", ".zst", ".ZST")
        ),
        ("train_prefs.jsonl", "default/train_prefs"),
    ],
)
def test_folders_are_configurations_and_names_are_splits(path: str, split: str) -> None:
    assert found(path, "other.jsonl") == {split: [path], "default/other": ["other.jsonl"]}


def test_the_only_table_is_the_split_train_whatever_its_name() -> None:
    assert found("README.md", "pairs.jsonl", "run.py") == {"default/train": ["pairs.jsonl"]}
    assert found("test.jsonl") == {"default/test": ["test.jsonl"]}


def test_shards_are_in_the_order_of_their_numbers() -> None:
    paths = [f"data/train-{n:05d}-of-00011.parquet" for n in (10, 2, 1)]
    assert found(*paths) == {"default/train": paths[::-1]}
    assert found("train/10.jsonl", "train/9.jsonl") == {
        "default/train": ["train/9.jsonl", "train/10.jsonl"]
    }


def test_files_that_are_no_shards_of_one_table_are_not_put_together() -> None:
    assert found("helpful.jsonl", "harmless.jsonl", "squad_2016.csv", "squad_2017.csv").keys() == {
        *("default/helpful", "default/harmless", "default/squad_2016", "default/squad_2017")
    }


def test_a_split_in_two_kinds_of_file_is_not_read_twice() -> None:
    assert found("train.jsonl", "train.parquet", "train.csv", "train.orc") == {
        "default/train": ["train.parquet"],
        "default/train.jsonl": ["train.jsonl"],
        "default/train.csv": ["train.csv"],
        "default/train.orc": ["train.orc"],
    }


def test_descriptions_hidden_files_and_other_kinds_are_left_out() -> None:
    paths = (
        *("dataset_infos.json", "dataset_dict.json", "train/state.json", "config.json"),
        *(".cache/train.jsonl", "model.safetensors", "_x.json", "train.zip", "LICENSE.json"),
    )
    assert found(*paths) == {}


CARD = {
    "configs": [
        {
            "config_name": "prefs",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/train_prefs-*"},
                {"split": "test", "path": ["data/test_prefs-*", "more/**/*.parquet"]},
            ],
        },
        {"config_name": "one", "data_files": "one/*.jsonl"},
        {"config_name": "folder", "data_dir": "folder"},
        {"config_name": "elsewhere", "data_files": "https://example.com/train.jsonl"},
    ]
}


def test_the_card_says_which_files_make_which_split() -> None:
    paths = [
        *("data/train_prefs-0.parquet", "data/train_sft-0.parquet", "data/test_prefs-0.parquet"),
        *("more/a/b/c.parquet", "one/a.jsonl", "folder/test.csv", "loose.csv"),
    ]
    assert found(*paths, card=CARD) == {
        "prefs/train": ["data/train_prefs-0.parquet"],
        "prefs/test": ["data/test_prefs-0.parquet", "more/a/b/c.parquet"],
        "one/train": ["one/a.jsonl"],
        "folder/test": ["folder/test.csv"],
    }
    splits = find_splits([HubFile(path, 1) for path in paths], CARD)
    assert {split.config for split in splits if split.is_default} == {"prefs"}


@pytest.mark.parametrize("configs", [None, [], "x", [3], [{"config_name": "a"}]])
def test_a_card_that_says_nothing_of_files_is_passed_over(configs: object) -> None:
    assert found("train.jsonl", card={"configs": configs}) == {"default/train": ["train.jsonl"]}


def test_patterns() -> None:
    assert matches("data/train-00000-of-00001.parquet", "data/train-*")
    assert matches("train.csv", "**/*.csv")
    assert matches("a/b/train.csv", "**/*.csv")
    assert not matches("a/b/train.csv", "a/*.csv")
    assert not matches("train.csv", "train.csv/**/x")
