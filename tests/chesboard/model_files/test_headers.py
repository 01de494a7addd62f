"""Files of weights that are not whole, or not what their names say."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chesboard.model_files import headers
from chesboard.model_files.headers import find_fault, tensor_shapes
from tests.model_folders import GGUF, safetensors


def fault(tmp_path: Path, content: bytes, name: str = "model.safetensors") -> str:
    file = tmp_path / name
    file.write_bytes(content)
    return find_fault(file) or ""


@pytest.mark.parametrize("size", [0, 1, 700, 19_000])
def test_a_whole_file_has_no_fault(tmp_path: Path, size: int) -> None:
    assert fault(tmp_path, safetensors(size)) == ""
    assert fault(tmp_path, GGUF + bytes(size), "m.gguf") == ""


@pytest.mark.parametrize("length", [0x3C, 0x4B50, 0x280, 0x480])
def test_a_header_s_length_is_never_taken_for_another_kind_of_file(
    tmp_path: Path, length: int
) -> None:
    """Its first bytes may be those of a web page (`<`), a zip (`PK`) or a pickle."""
    header = b'{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'.ljust(length)
    assert fault(tmp_path, struct.pack("<Q", length) + header[:length]) == ""


@given(cut=st.integers(1, 150))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_cut_is_seen(tmp_path: Path, cut: int) -> None:
    whole = safetensors(100)
    left = max(0, len(whole) - cut)
    said = fault(tmp_path, whole[:left])
    assert "model.safetensors" in said
    if left > 8:
        assert f"it has {left:,} bytes" in said


def test_a_file_that_grew_is_damaged(tmp_path: Path) -> None:
    assert "3 bytes more" in fault(tmp_path, safetensors(10) + b"abc")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 123\n"


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (POINTER, "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"  <html>", "is a web page"),
        (b"PK\x03\x04" + bytes(200), "Pickles are never opened"),
        (b"\x80\x02}q\x00", "Pickles are never opened"),
        (bytes(100), "its header is damaged"),
        (b"\x80", "its header is damaged"),
    ],
)
def test_what_is_something_else_is_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    found = fault(tmp_path, content, name)
    assert found.startswith(name)
    assert said in found


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b'{"t": 1}',
        b'{"t": {"data_offsets": "no"}}',
        b"{}x",
        b'{"t": {"data_offsets": [0, Infinity], "shape": [Infinity]}}',
        # One such model was an error 500 of the list of all of them.
        b'{"t":' * 200_000 + b"0" + b"}" * 200_000,
        b'{"t":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, header: bytes) -> None:
    assert "damaged" in fault(tmp_path, struct.pack("<Q", len(header)) + header)
    assert tensor_shapes(tmp_path / "model.safetensors") == {}


def test_a_header_of_a_million_tensors_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 98 MB it took 1.2 GB of the server's memory, and half a minute of everybody's time."""
    monkeypatch.setattr(headers, "_MOST_HEADER_BYTES", 1000)
    header = b'{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'.ljust(1001)
    found = fault(tmp_path, struct.pack("<Q", len(header)) + header)
    assert "a header of 1,001 bytes, more than that of any model" in found


def test_a_link_to_a_file_that_is_not_there_is_an_unfinished_download(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.symlink_to(tmp_path / "blobs" / "abc")
    assert "its download is not finished" in (find_fault(file) or "")
