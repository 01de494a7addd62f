"""Headers of GGUF files, against the package that writes them."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from chesboard.model_files.gguf import read_gguf


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_bool("some.switch", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é", "c"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_name("Tiny")
    writer.add_tensor("token_embd.weight", np.zeros((3, 32), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_and_shapes_are_those_that_were_written(file: Path) -> None:
    header = read_gguf(file)
    assert header is not None
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.block_count"] == 2
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.metadata["some.switch"] is True
    assert header.metadata["general.name"] == "Tiny"
    assert "tokenizer.ggml.tokens" not in header.metadata
    assert header.shapes == {"token_embd.weight": (3, 32), "output_norm.weight": (32,)}


def test_a_damaged_header_is_none(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for content in (b"", b"GGUF", whole[:60], b"GGUF" + b"\xff" * 60, b"PK" + whole[2:]):
        file.write_bytes(content)
        assert read_gguf(file) is None
    assert read_gguf(tmp_path / "missing.gguf") is None


def test_arrays_in_arrays_without_end_are_a_damaged_header(file: Path) -> None:
    array = struct.pack("<IQ", 9, 1)
    begins = struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 9)
    file.write_bytes(b"GGUF" + begins + array * 100_000)
    assert read_gguf(file) is None
