"""Files that are something else: one sentence that names the kind and says what to do."""

import gzip
import io
import pickle
import tarfile
import zipfile

import pytest

from chesboard.formats.errors import FormatError
from chesboard.formats.sniffing import what_it_is
from tests.chesboard.formats.test_parsing import understand

ROW = b'{"prompt": "Is ice light?", "chosen": "Yes", "rejected": "No"}\n'


def tar() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        member = tarfile.TarInfo("train.jsonl")
        member.size = len(ROW)
        members.addfile(member, io.BytesIO(ROW))
    return archive.getvalue()


def workbook() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("[Content_Types].xml", "<Types/>")
        members.writestr("xl/workbook.xml", "<workbook/>")
    return archive.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar(), "a tar archive"),
        (gzip.compress(tar(), mtime=0), "a tar archive"),
        (workbook(), r"an Excel workbook \(.xlsx\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"<!doctype html>\n<html><head></head></html>", "a web page"),
        (b"\n<!-- saved -->\n<HTML lang=en>", "a web page"),
        (b"\x93NUMPY\x01\x00v\x00", "a NumPy array"),
        (b"ORC\x0a\x0b", "The file is ORC"),
        (b"\xff\xff\xff\xff\x10\x00", "an Arrow stream"),
        ("prompt,chosen,rejected\na,b,c\n".encode("utf-16-le"), "UTF-16"),
        ('{"prompt": "a", "chosen": "b"}\n'.encode("utf-16-be"), "UTF-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "pairs"])
def test_the_kind_is_named(data: bytes, message: str, name: str) -> None:
    with pytest.raises(FormatError, match=message):
        understand(data, name)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [[{"prompt": "a"}], {"prompt": ["a"]}, "a", ("a", 1)])
def test_pickles_are_refused_in_every_protocol(protocol: int, value: object) -> None:
    assert "Pickles" in (what_it_is(pickle.dumps(value, protocol)) or "")


@pytest.mark.parametrize(
    "data",
    [
        ROW,
        b"prompt,chosen,rejected\n<html>,b,c\n",
        b"ok,chosen,rejected\n",
        "prompt,chosen,rejected\n\u00e9,\u4e2d\u6587,\u3042\n".encode(),
        b'{"prompt": "a\x00b"}\n',
        b"",
    ],
)
def test_what_may_be_a_dataset_is_none_of_these(data: bytes) -> None:
    assert what_it_is(data) is None
