"""Files that are something else: one sentence that names the kind and says what to do."""

import gzip
import io
import itertools
import pickle
import struct
import zipfile

import pytest

from chesboard.formats.errors import FormatError
from chesboard.formats.sniffing import what_it_is
from tests.chesboard.formats.test_parsing import understand

ROW = b'{"prompt": "Is ice light?", "chosen": "Yes", "rejected": "No"}\n'


def zipped(*names: str, **contents: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for name in (*names, *contents):
            members.writestr(name, contents.get(name, "x"))
    return archive.getvalue()


def package(name: str) -> bytes:
    """An Office file."""
    return zipped("[Content_Types].xml", "_rels/.rels", name)


def open_document(kind: str) -> bytes:
    return zipped(mimetype=f"application/vnd.oasis.opendocument.{kind}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"<!doctype html>\n<html><head></head></html>", "a web page"),
        (b"\n<!-- saved -->\n<HTML lang=en>", "a web page"),
        (b"\x93NUMPY\x01\x00v\x00", "a NumPy array"),
        (
            "prompt,chosen,rejected\n雪是冷的吗,是,不\n雪是冷的吗,是,不\n".encode("utf-16-le"),
            "UTF-16",
        ),
        (
            '{"prompt": "雪是冷的吗雪是冷的吗雪是冷的吗", "chosen": "是的是的是的"'.encode(
                "utf-16-be"
            ),
            "UTF-16",
        ),
        (open_document("spreadsheet"), r"a sheet \(.ods\)"),
        (open_document("text"), "a text document"),
        (package("word/document.xml"), r"a Word document \(.docx\)"),
        (package("xl/workbook.xml"), r"an Excel workbook \(.xlsx\)"),
        (zipped("archive/data.pkl"), "PyTorch"),
        (zipped("arr_0.npy"), r"\.npz"),
        (b"ORC\x0a\x0b", "The ORC file is damaged"),
        (b"\xff\xff\xff\xff\x10\x00", "The Arrow stream is damaged"),
        (b"FEA1\0\0", "Feather of version 1"),
        (b"Obj\x01\x04", "Avro"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\xd0\xcf\x11\xe0\xa1", r"\.xls"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (struct.pack("<Q", 60) + b'{"lm_head.weight":{"dtype":"F32"}}', "safetensors"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"\0\0\0\x20ftypisom", "MP4"),
        (b"RIFF\x24\x08\0\0WAVEfmt ", "WAV"),
        (b"{\\rtf1\\ansi Hello", "RTF"),
        (b"%PDF-1.7", "PDF"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"| prompt | chosen |\n|---|:--|\n| a | b |\n", "Markdown"),
        (b"---\nlicense: mit\n---\n# A dataset\n", "README"),
        (b"# A dataset\n\nIt holds pairs.\n", "Markdown"),
        (b'<?xml version="1.0"?>\n<rows><row/></rows>', "XML"),
        (b"<rows>\n  <row/></rows>", "XML"),
        (b"% pairs\n\\documentclass{article}\n", "LaTeX"),
        (b"import json\n\nprint(1)\n", "a script"),
        (b"#!/bin/sh\necho\n", "a script"),
        (b"-- dump\nCREATE TABLE pairs (id int);\n", "SQL"),
        (b"\0" * 9000, "NUL"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "a web page"),
        (gzip.compress(gzip.compress(ROW)), "compressed twice"),
        ("prompt,chosen,rejected\na,b,c\n".encode("utf-16-le"), "UTF-16"),
        ('{"prompt": "a", "chosen": "b"}\n'.encode("utf-16-be"), "UTF-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "pairs"])
def test_the_kind_is_named(data: bytes, message: str, name: str) -> None:
    with pytest.raises(FormatError, match=message):
        understand(data, name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"- prompt: a\n  chosen: b\n  rejected: c\n", "YAML"),
        (b"prompt: a\nchosen: b\n", "YAML"),
        (b'[[pairs]]\nprompt = "a"\n', "TOML"),
        (b'title = "pairs"\n\n[pairs]\n', "TOML"),
    ],
)
def test_texts_that_might_be_tables_are_named_unless_they_are_called_so(
    data: bytes, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        understand(data, f"pairs.{message.lower()}")
    assert what_it_is(data, "pairs.csv") is None


@pytest.mark.parametrize(
    ("protocol", "value"),
    [
        *itertools.product(
            range(2, pickle.HIGHEST_PROTOCOL + 1),
            [[{"prompt": "a"}], {"prompt": ["a"]}, "a", ("a", 1)],
        ),
        *itertools.product(range(2), [[{"prompt": "a"}], {"prompt": ["a"]}]),
    ],
)
def test_pickles_are_refused_in_every_protocol(protocol: int, value: object) -> None:
    assert "Pickles" in (what_it_is(pickle.dumps(value, protocol)) or "")


@pytest.mark.parametrize(
    "data",
    [
        ROW,
        b"prompt,chosen,rejected\n<html>,b,c\n",
        b"<a>,chosen,rejected\nx,y,z\n",
        b"ORCID,chosen,rejected\n1,a,b\n",
        b"import,export,prompt\n1,2,3\n",
        b"prompt|chosen|rejected\na|b|c\n",
        b"key: value,chosen\na,b\n",
        b"ok,chosen,rejected\n",
        "prompt,chosen,rejected\n\u00e9,\u4e2d\u6587,\u3042\n".encode(),
        b'{"prompt": "a\x00b"}\n',
        b"",
    ],
)
def test_what_may_be_a_dataset_is_none_of_these(data: bytes) -> None:
    assert what_it_is(data) is None
