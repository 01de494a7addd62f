"""Tables in archives: named, chosen, streamed; and archives that are refused."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, orc

from chesboard.formats import archives
from chesboard.formats.errors import FileTooLargeError, FormatError
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.reading import Opened, open_rows
from chesboard.formats.rows import PairRow
from tests.chesboard.formats.test_parsing import run_with_retry

Files = dict[str, bytes]


def rows(*numbers: int) -> list[dict[str, str]]:
    return [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in numbers]


def jsonl(*numbers: int) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows(*numbers))


def table(*numbers: int) -> pa.Table:
    return pa.Table.from_pylist(rows(*numbers))


def parquet(*numbers: int) -> bytes:
    out = io.BytesIO()
    pq.write_table(table(*numbers), out)
    return out.getvalue()


def arrow_file(*numbers: int) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table(0).schema) as writer:
        writer.write_table(table(*numbers), max_chunksize=1)
    return out.getvalue()


def arrow_stream(*numbers: int) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table(0).schema) as writer:
        writer.write_table(table(*numbers), max_chunksize=1)
    return out.getvalue()


def feather_file(*numbers: int) -> bytes:
    out = io.BytesIO()
    feather.write_feather(table(*numbers), out, compression="zstd")
    return out.getvalue()


def orc_file(*numbers: int) -> bytes:
    out = io.BytesIO()
    orc.write_table(table(*numbers), out)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return bytes(sink.getvalue())


def zipped(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tar_gz(files: Files) -> bytes:
    return gzip.compress(tarred(files), 1)


PACKERS = [zipped, tarred, tar_gz]
either = pytest.mark.parametrize("pack", PACKERS)
Packer = Callable[[Files], bytes]


def opened(data: bytes, member: str | None = None, name: str = "a.zip", limit: int = 1 << 26):
    return open_rows(io.BytesIO(data), name, limit, member=member)


def prompts(data: bytes, member: str | None = None, name: str = "a.zip") -> list[Any]:
    return prompts_of(opened(data, member, name))


def prompts_of(found: Opened) -> list[Any]:
    return [row.prompt for row in PairReader().read(found.rows) if isinstance(row, PairRow)]


# --- which table ------------------------------------------------------------------------------


@either
def test_the_only_table_is_read_whatever_lies_beside_it(pack: Packer) -> None:
    data = pack(
        {
            "data/README.md": b"# A card",
            "data/dataset_infos.json": b"{}",
            "data/state.json": b"{}",
            "__MACOSX/data/._train.jsonl": b"\0\5\26\7",
            "data/.train.jsonl.swp": b"x",
            "data/figure.png": b"\x89PNG",
            "data/train.jsonl": jsonl(1, 2),
        }
    )
    found = opened(data)
    assert (found.member, found.kind, found.is_packed) == ("data/train.jsonl", "jsonl", True)
    assert prompts_of(found) == ["Q1", "Q2"]
    assert list(found.warnings) == []


@either
def test_of_several_tables_each_is_named_with_its_size(pack: Packer) -> None:
    train, test = jsonl(1, 2, 3), jsonl(4, 5)
    data = pack({"d/train.jsonl": train, "d/test.jsonl": test})
    with pytest.raises(FormatError, match=r"`member`: d/train\.jsonl, d/test\.jsonl") as caught:
        opened(data)
    assert caught.value.items == [
        {"field": "member", "snippet": "d/train.jsonl", "message": f"{len(train)} bytes"},
        {"field": "member", "snippet": "d/test.jsonl", "message": f"{len(test)} bytes"},
    ]
    assert prompts(data, "d/test.jsonl") == ["Q4", "Q5"]
    assert prompts(data, "d/train.jsonl") == ["Q1", "Q2", "Q3"]
    with pytest.raises(FormatError, match=r"holds no 'd/dev.jsonl'"):
        opened(data, "d/dev.jsonl")


@either
def test_shards_are_one_table_in_their_order(pack: Packer) -> None:
    files = {
        "data/train-00001-of-00002.parquet": parquet(3),
        "data/test-00000-of-00001.parquet": parquet(4),
        "data/train-00000-of-00002.parquet": parquet(1, 2),
    }
    data = pack(files)
    with pytest.raises(FormatError, match="data/train, data/test"):
        opened(data)
    found = opened(data, "data/train")
    read = [row for row in PairReader().read(found.rows) if isinstance(row, PairRow)]
    assert [(row.row, row.prompt) for row in read] == [(1, "Q1"), (2, "Q2"), (3, "Q3")]
    assert prompts(data, "data/train-00001-of-00002.parquet") == ["Q3"]


@either
def test_a_folder_of_save_to_disk_is_read(pack: Packer) -> None:
    data = pack(
        {
            "ds/dataset_dict.json": b'{"splits": ["train", "test"]}',
            "ds/train/data-00000-of-00002.arrow": arrow_stream(1, 2),
            "ds/train/data-00001-of-00002.arrow": arrow_stream(3),
            "ds/train/state.json": b"{}",
            "ds/test/data-00000-of-00001.arrow": arrow_stream(4),
        }
    )
    assert prompts(data, "ds/train") == ["Q1", "Q2", "Q3"]
    assert prompts(data, "ds/test") == ["Q4"]


def test_shards_that_are_missing_are_named() -> None:
    found = opened(zipped({"train-00001-of-00003.jsonl": jsonl(1)}))
    assert list(found.warnings) == ["train is incomplete: of 3 parts, 1, 3 are not in the archive."]


def test_a_json_object_of_splits_within_an_archive() -> None:
    data = zipped({"all.json": json.dumps({"train": rows(1), "test": rows(2)}).encode()})
    with pytest.raises(FormatError, match=r"all.json: The JSON object") as caught:
        prompts(data)
    assert [item["snippet"] for item in caught.value.items] == ["all.json/train", "all.json/test"]
    assert prompts(data, "all.json/test") == ["Q2"]


@pytest.mark.parametrize("member", ["train", "a.jsonl"])
def test_a_plain_file_has_no_members(member: str) -> None:
    with pytest.raises(FormatError, match="one table and no members"):
        opened(jsonl(1, 2), member, "a.jsonl")


FILES = st.dictionaries(
    st.sampled_from(["train.jsonl", "test.csv", "x/dev.json", "x/eval.jsonl.gz"]),
    st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True),
    min_size=1,
)


def written(name: str, numbers: list[int]) -> bytes:
    if name.endswith(".csv"):
        lines = [",".join(row.values()) for row in rows(*numbers)]
        return "\n".join(["prompt,chosen,rejected", *lines]).encode()
    if name.endswith(".json"):
        return json.dumps(rows(*numbers)).encode()
    return gzip.compress(jsonl(*numbers)) if name.endswith(".gz") else jsonl(*numbers)


@run_with_retry
@given(FILES, st.sampled_from(PACKERS))
def test_a_member_reads_as_the_file_by_itself(files: dict[str, list[int]], pack: Packer) -> None:
    data = {name: written(name, numbers) for name, numbers in files.items()}
    for name in files:
        assert prompts(pack(data), name) == prompts(data[name], None, name)


# --- what is refused --------------------------------------------------------------------------


@either
@pytest.mark.parametrize("name", ["/etc/train.jsonl", "../train.jsonl", "a/../../train.jsonl"])
def test_names_that_lead_out_of_the_archive_are_refused(pack: Packer, name: str) -> None:
    with pytest.raises(FormatError, match="its name points out of the archive"):
        opened(pack({name: jsonl(1)}))
    found = opened(pack({name: jsonl(1), "test.jsonl": jsonl(2)}))
    assert prompts_of(found) == ["Q2"]
    assert "Not read are" in " ".join(found.warnings)


def test_encrypted_members_are_refused_by_name() -> None:
    data = bytearray(zipped({"train.jsonl": jsonl(1)}))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags] |= 1
    with pytest.raises(FormatError, match=r"train.jsonl: it is encrypted"):
        opened(bytes(data))


def test_zip_bombs_are_refused_by_name() -> None:
    bomb = zipped({"train.jsonl": b"\n" * (64 << 20)})
    with pytest.raises(FormatError, match=r"train.jsonl: it unpacks to more than 200 times"):
        opened(bomb, limit=1 << 30)
    with pytest.raises(FormatError, match=r"train.jsonl: it unpacks to more than 1,048,576 bytes"):
        opened(bomb, limit=1 << 20)


def test_tar_bombs_are_stopped_by_their_ratio() -> None:
    with pytest.raises(FileTooLargeError, match="times its size"):
        opened(tar_gz({"train.jsonl": b"\n" * (64 << 20)}), limit=1 << 30)


def test_links_are_refused() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("train.jsonl")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(FormatError, match=r"train.jsonl: it is a link"):
        opened(out.getvalue())


@either
def test_an_archive_of_too_many_files_is_refused(
    pack: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 5)
    with pytest.raises(FormatError, match="more than 5 files"):
        opened(pack({f"{n}.jsonl": jsonl(n) for n in range(9)}))


@either
def test_archives_within_archives_are_not_opened(pack: Packer) -> None:
    inner = zipped({"train.jsonl": jsonl(1)})
    with pytest.raises(FormatError, match="no table that is read"):
        opened(pack({"inner.zip": inner}))
    with pytest.raises(FormatError, match=r"train.jsonl: an archive within the archive"):
        opened(pack({"train.jsonl": inner}))


@either
def test_what_a_member_is_instead_is_said_with_its_name(pack: Packer) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
    with pytest.raises(FormatError, match=r"train\.parquet: The file is a Git LFS pointer"):
        opened(pack({"data/train.parquet": pointer}))


@pytest.mark.parametrize("cut", [200, 600, 1200])
@either
def test_an_archive_that_is_cut_off_is_refused(pack: Packer, cut: int) -> None:
    data = pack({"train.jsonl": jsonl(*range(2000)), "test.jsonl": jsonl(1)})
    with pytest.raises(FormatError):
        prompts(data[: len(data) - cut - len(data) // 4], "train.jsonl")


@either
def test_a_part_of_an_archive_is_not_previewed(pack: Packer) -> None:
    with pytest.raises(FormatError, match="cannot be previewed"):
        open_rows(io.BytesIO(pack({"a.jsonl": jsonl(1)})), "a", 1 << 20, is_whole=False)


@run_with_retry
@given(st.binary(max_size=200), st.integers(0, 700), st.sampled_from(PACKERS))
def test_damaged_archives_are_read_or_refused(damage: bytes, at: int, pack: Packer) -> None:
    data = bytearray(pack({"train.jsonl": jsonl(*range(5)), "test.csv": b"a,b\n1,2\n"}))
    data[at : at + len(damage)] = damage
    with suppress(FormatError):
        prompts(bytes(data), "train.jsonl")


# --- kinds of tables and compression ----------------------------------------------------------


@pytest.mark.parametrize("write", [parquet, arrow_file, arrow_stream, feather_file, orc_file])
@pytest.mark.parametrize("packed", [False, True])
def test_binary_tables_are_read(write: Callable[..., bytes], packed: bool) -> None:
    data = gzip.compress(write(1, 2, 3)) if packed else write(1, 2, 3)
    assert prompts(data, None, "table") == ["Q1", "Q2", "Q3"]


@pytest.mark.parametrize("write", [arrow_file, arrow_stream, orc_file])
def test_damaged_tables_are_refused(write: Callable[..., bytes]) -> None:
    with pytest.raises(FormatError, match="damaged"):
        prompts(write(1, 2, 3)[:-60], None, "table")


COMPRESSIONS = [gzip.compress, bz2.compress, lzma.compress, zstd]


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=["gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tar", ".parquet"])
def test_compressed_files_are_read(compress: Callable[[bytes], bytes], suffix: str) -> None:
    data = {
        ".jsonl": jsonl(1, 2),
        ".csv": written("a.csv", [1, 2]),
        ".tar": tarred({"train.jsonl": jsonl(1, 2)}),
        ".parquet": parquet(1, 2),
    }[suffix]
    assert prompts(compress(data), None, f"a{suffix}.packed") == ["Q1", "Q2"]


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=["gzip", "bz2", "xz", "zstd"])
def test_streams_one_after_another_are_one_file(compress: Callable[[bytes], bytes]) -> None:
    assert prompts(compress(jsonl(1)) + compress(jsonl(2)), None, "a") == ["Q1", "Q2"]


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=["gzip", "bz2", "xz", "zstd"])
def test_bombs_are_stopped_and_broken_ones_refused(compress: Callable[[bytes], bytes]) -> None:
    with pytest.raises(FileTooLargeError, match="times its size"):
        prompts(compress(b"\n" * (48 << 20)), None, "a.jsonl")
    with pytest.raises(FormatError, match=r"damaged or incomplete|is damaged"):
        prompts(compress(jsonl(*range(999)))[:-20], None, "a.jsonl")
