"""The spool: whole lines are read, torn ones are not, and nothing is read twice."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chesboard.client import spool
from chesboard.client.spool import Position, Spool, entries, read_position, runs, write_position

START = Position(server="http://here")


def values(folder, start=START):
    return [entry.value for entry in entries(folder, start)]


def test_lines_come_back_in_their_order(tmp_path) -> None:
    written = Spool(tmp_path / "key")
    for number in range(3):
        written.append({"record": {"step": number, "text": "é\n"}})
    assert values(written.folder) == [{"step": n, "text": "é\n"} for n in range(3)]


def test_a_file_that_was_begun_before_is_not_written_to(tmp_path) -> None:
    Spool(tmp_path).append({"record": 1})
    Spool(tmp_path).append({"record": 2})
    assert [path.name for path in spool.files(tmp_path)] == ["00001.ndjson", "00002.ndjson"]
    assert values(tmp_path) == [1, 2]


def test_a_torn_last_line_is_left_until_it_is_whole(tmp_path) -> None:
    written = Spool(tmp_path)
    written.append({"record": 1})
    with written.path.open("ab") as file:
        file.write(b'{"record": ')
        file.flush()
        [first] = entries(tmp_path, START)
        file.write(b"2}\n")
    assert first.value == 1
    assert values(tmp_path, first.end) == [2]


def test_a_torn_line_of_a_process_that_died_hides_nothing_after_it(tmp_path) -> None:
    died = Spool(tmp_path)
    died.append({"record": 1})
    with died.path.open("ab") as file:
        file.write(b'{"rec')
    Spool(tmp_path).append({"record": 2})
    assert values(tmp_path) == [1, 2]


def test_what_follows_a_line_that_a_full_disk_tore_is_whole(tmp_path, monkeypatch) -> None:
    written, write = Spool(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
    with pytest.raises(OSError, match="could be written to"):
        written.append({"record": 1})
    monkeypatch.undo()
    written.append({"record": 2})
    assert values(tmp_path) == [2]


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers()), max_size=8), st.integers(0, 8))
def test_reading_goes_on_from_any_entry(tmp_path_factory, records, at) -> None:
    written = Spool(tmp_path_factory.mktemp("spool"))
    for record in records:
        written.append({"record": record})
    read = list(entries(written.folder, START))
    start = read[at - 1].end if 0 < at <= len(read) else START
    assert values(written.folder, start) == records[at if 0 < at <= len(read) else 0 :]


def test_a_position_is_of_one_server(tmp_path) -> None:
    at = Position("00001.ndjson", 12, run_id=3, attempt=1, server="http://here")
    write_position(tmp_path, at)
    assert read_position(tmp_path, "http://here") == at
    assert read_position(tmp_path, "http://there") == Position(server="http://there")


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"file": 1, "unknown": 2}'])
def test_a_position_that_cannot_be_read_begins_anew(tmp_path, damaged) -> None:
    (tmp_path / spool.SENT).write_text(damaged)
    assert read_position(tmp_path, "http://here") == START


def test_runs_are_found_at_and_below_a_folder(tmp_path) -> None:
    for name in ("b", "a"):
        Spool(tmp_path / "out" / "chesboard" / name)
    found = runs(tmp_path)
    assert [path.name for path in found] == ["a", "b"]
    assert runs(found[0]) == [found[0]]


def test_it_is_on_the_disk_within_a_second_and_at_once_when_asked(tmp_path, monkeypatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    written = Spool(tmp_path)
    written.append({"record": 1})
    written.sync(least_seconds=60)
    assert not synced
    written.sync()
    written.sync()
    assert len(synced) == 1, "nothing new: nothing to do"


def test_numbers_that_json_lacks_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Spool(tmp_path).append({"record": float("nan")})
