"""On a CUDA GPU: a Llama of a billion random weights in bfloat16, and the attention's kernels.

The share of the chip's peak counts the multiplications that the model needs (2 for each weight
and input token in a forward pass, 6 with the backward pass), not those that recomputing adds.
"""

import torch

from tests.benchmarks.case import BILLION
from tests.benchmarks.measuring import Row, compare

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bfloat16, from the makers' data sheets, by a part of the device's name."""
COUNT = 128


def rows(model: str, workloads: list[str], rounds: int) -> list[Row]:
    if not torch.cuda.is_available():
        return []
    return [*_model_rows(rounds), *_attention_rows()]


def _model_rows(rounds: int) -> list[Row]:
    cases = ["score bfloat16", "train bfloat16", "trl bfloat16"]
    best = compare("random tokens", COUNT, cases, BILLION, rounds)
    theirs = best["trl bfloat16"].seconds
    found = []
    for case, mine in best.items():
        passes = 2 if case.startswith("score") else 8  # the reference pass and the training's
        share = _share(passes * mine.parameters * mine.tokens / mine.seconds)
        ratio = "" if case.startswith("score") else f"{theirs / mine.seconds:.2f}"
        found.append(
            Row("GPU, 1B", "random tokens", COUNT, case, mine.seconds, ratio, "", mine.peak_mib,
                share)
        )  # fmt: skip
    return found


def _share(flops: float) -> str:
    name = torch.cuda.get_device_name(0)
    peaks = [peak for part, peak in PEAK_FLOPS.items() if part in name]
    return f"{flops / peaks[0]:.0%} of peak" if peaks else f"{flops / 1e12:.0f} TFLOP/s"


def _attention_rows() -> list[Row]:
    """One layer's attention, forward and backward, 8 rows of 1,500 shared and 2 x 250 tokens."""
    batch, heads, length, size, shared = 8, 32, 2048, 64, 1536
    query, key, value = (
        torch.randn(batch, heads, length, size, device="cuda", dtype=torch.bfloat16)
        .requires_grad_()
        for _ in range(3)
    )  # fmt: skip
    segment_L = torch.zeros(length, device="cuda", dtype=torch.int8)
    segment_L[shared : shared + 256], segment_L[shared + 256 :] = 1, 2
    seconds = {
        "SDPA, mask": _time(_sdpa(query, key, value, segment_L)),
        "FlexAttention": _time(_flex(query, key, value, segment_L)),
    }
    base = seconds["SDPA, mask"]
    return [
        Row("GPU, attention", "2,048 tokens", batch, name, each, f"{base / each:.2f}", "", 0, "")
        for name, each in seconds.items()
    ]


def _sdpa(query, key, value, segment_L):
    causal_LL = torch.ones(len(segment_L), len(segment_L), device="cuda", dtype=torch.bool).tril()
    mask_LL = causal_LL & ((segment_L == 0)[None] | (segment_L[:, None] == segment_L[None]))
    mask_B1LL = mask_LL.expand(len(query), 1, -1, -1)

    def run():
        attention = torch.nn.functional.scaled_dot_product_attention
        attention(query, key, value, attn_mask=mask_B1LL).sum().backward()

    return run


def _flex(query, key, value, segment_L):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def may_look(_b, _h, q, k):
        return (q >= k) & ((segment_L[k] == 0) | (segment_L[k] == segment_L[q]))

    length = len(segment_L)
    blocks = create_block_mask(may_look, len(query), None, length, length, device="cuda")
    compiled = torch.compile(flex_attention)

    def run():
        compiled(query, key, value, block_mask=blocks).sum().backward()

    return run


def _time(run) -> float:
    """Seconds of a hundred calls."""
    for _ in range(3):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(100):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000
