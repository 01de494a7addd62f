"""A GGUF file of a Llama of random weights, in Q8_0."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np


def write_llama(
    path: Path,
    tokens: Sequence[str],
    merges: Sequence[str],
    *,
    ends: tuple[int, int] = (0, 1),
    width: int = 32,
    heads: int = 2,
    layers: int = 1,
    chat_template: str | None = None,
) -> None:
    """tokens, merges: of its byte-level BPE. ends: ids of the tokens that begin and end a text."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ends[0])
    writer.add_eos_token_id(ends[1])
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    random = np.random.default_rng(0)
    names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    shapes = {
        f"blk.{layer}.{name}.weight": (width, width) for layer in range(layers) for name in names
    }
    shapes |= {"token_embd.weight": (len(tokens), width), "output.weight": (len(tokens), width)}
    for name, shape in shapes.items():
        values = (random.standard_normal(shape) / width**0.5).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    norms = [f"blk.{layer}.{name}" for layer in range(layers) for name in ("attn_norm", "ffn_norm")]
    for name in (*norms, "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
