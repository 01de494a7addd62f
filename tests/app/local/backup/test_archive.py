"""Archives of earlier versions are restored; those that were changed are refused."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from app.local.backup.create import back_up
from app.local.backup.restore import restore_all
from app.local.errors import SetupError
from tests.app.local.backup.archives import content, files, query, rewrite, write_format_1


def test_an_archive_of_format_1_is_restored(full: str, elsewhere: str, tmp_path: Path) -> None:
    before = content(full)
    write_format_1(full, tmp_path / "old.tar", {"1/model/config.json": b"{}"})
    made = restore_all(elsewhere, tmp_path / "new", tmp_path / "old.tar")
    assert made.rows == sum(map(len, before.values())) - 1
    after = content(elsewhere)
    same = set(before) - {"runs", "run_shards", "run_seats", "workers", "audit_events"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert query(elsewhere, "SELECT status FROM runs WHERE id = 2") == ("queued",)
    assert files(tmp_path / "new") == {"1/model/config.json": b"{}"}


def test_a_damaged_archive_of_format_1_changes_nothing(
    full: str, elsewhere: str, tmp_path: Path
) -> None:
    write_format_1(full, tmp_path / "old.tar", {})
    for change, words in (
        (lambda n, b: None if n == "database/pairs.copy.gz" else (n, b), "damaged: database/pairs"),
        (lambda n, b: (n, b.replace(b'"format": 1', b'"format": 2')), "its format's members"),
    ):
        bad = rewrite(tmp_path / "old.tar", change)
        with pytest.raises(SetupError, match=words):
            restore_all(elsewhere, tmp_path / "new", bad)
    assert content(elsewhere) == {}


WEIGHTS = "files/1/model/model.safetensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, b: (n, b[:-1] + b"x") if n == WEIGHTS else (n, b), "damaged: files/1"),
        (lambda n, b: None if n == WEIGHTS else (n, b), "damaged: files/1"),
        (lambda n, b: None if n == "database.dump" else (n, b), "damaged: database.dump"),
        (lambda n, b: (n, b[::-1]) if n == "database.dump" else (n, b), "damaged: database.dump"),
        (lambda n, b: None if n == "manifest.json" else (n, b), "no manifest"),
        (lambda n, b: (n, b"{}") if n == "manifest.json" else (n, b), "manifest cannot be read"),
        (lambda n, b: ("files/../../evil", b) if n == WEIGHTS else (n, b), "damaged"),
        (
            lambda n, b: (n.replace("1/model/m", "../../m"), b.replace(b"1/model/m", b"../../m")),
            "does not belong in a backup",
        ),
        (
            lambda n, b: (n, b.replace(b'"format": 2', b'"format": 9')),
            "format 9",
        ),
        (
            lambda n, b: (n, b.replace(b'"revision": "', b'"revision": "x')),
            "a schema that this version does not know",
        ),
    ],
)
def test_an_archive_that_was_changed_changes_nothing(
    full: str, elsewhere: str, runs: Path, tmp_path: Path, change: Any, words: str
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    bad = rewrite(tmp_path / "all.tar", change)
    with pytest.raises(SetupError, match=words):
        restore_all(elsewhere, tmp_path / "deep" / "new", bad)
    assert content(elsewhere) == {}
    assert list((tmp_path / "deep").glob("*")) == []
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_was_cut_off_or_is_none_changes_nothing(
    full: str, elsewhere: str, runs: Path, tmp_path: Path
) -> None:
    back_up(full, runs, tmp_path / "all.tar")
    whole = (tmp_path / "all.tar").read_bytes()
    for name, body in (("cut", whole[: len(whole) // 2]), ("text", b"no tar"), ("empty", b"")):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(SetupError):
            restore_all(elsewhere, tmp_path / "new", tmp_path / name)
    with pytest.raises(SetupError, match="No such file"):
        restore_all(elsewhere, tmp_path / "new", tmp_path / "none")
    assert content(elsewhere) == {}


def test_links_in_an_archive_are_refused(elsewhere: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        link = tarfile.TarInfo("files/1/model/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(SetupError, match="does not belong in a backup"):
        restore_all(elsewhere, tmp_path / "new", tmp_path / "bad.tar")
