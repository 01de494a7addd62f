import pytest
import torch

from chesboard.cpu.precision import computes_bfloat16
from chesboard.cpu.processor import capabilities


@pytest.mark.parametrize("has", ["_is_avx512_bf16_supported", "_is_amx_tile_supported", None])
def test_a_torch_that_lists_no_instructions_is_asked_for_those_of_bfloat16(has, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == has)
    assert computes_bfloat16() is (has is not None)
    assert "avx512_f" not in capabilities(), "products stay MKL's"
