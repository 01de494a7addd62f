"""Folders that are models by their names, headers and configuration, with weights of no use."""

import json
import struct
from pathlib import Path
from typing import Any

GGUF = b"GGUF\x03\x00\x00\x00"
"""The beginning of a GGUF file; 8 bytes."""


def safetensors(tensor_bytes: int = 0, name: str = "t") -> bytes:
    """A whole safetensors file with one tensor of so many bytes."""
    tensor = {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}
    header = json.dumps({name: tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(tensor_bytes)


def write_model(folder: Path, **config: Any) -> Path:
    """A folder that can be named as a model. config: fields of config.json beside a Llama's."""
    folder.mkdir(parents=True, exist_ok=True)
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(llama | config))
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_adapter(folder: Path, base: str | None, **config: Any) -> Path:
    """A folder that can be named as an adapter of a base model."""
    folder.mkdir(parents=True, exist_ok=True)
    lora = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(lora | config))
    (folder / "adapter_model.safetensors").write_bytes(safetensors())
    return folder
