"""What the rows of scoring and training have in common."""

from tests.benchmarks.case import BATCH_TOKENS
from tests.benchmarks.workloads import BATCH_SIZES

COLUMNS = (
    "what", "workload", "pairs", "case", "seconds", "ratio", "floor", "peak MiB", "agreement",
)  # fmt: skip
_BATCHES = ", ".join(f"{size} ({name})" for name, size in BATCH_SIZES.items())
ABOUT = f"""SmolLM2-135M-Instruct, each case in a process of its own. Token budget {BATCH_TOKENS};
training steps of so many pairs: {_BATCHES}.

- *baseline* scores one pair at a time with two full forwards and all logits, as the paper's script
  does. *trl* is TRL's DPOTrainer on the same token ids in the same order, AdamW, its reference
  log-probabilities precomputed, that pass included on both sides.
- *ratio*: how many times faster than the other side in float32 (or as the case says); *floor*: what
  the project asks for. Those for bfloat16 were set on a processor that has AMX, which is several
  times as fast at it as AVX-512 BF16 alone. On one without either ours computes in float32, with
  weights rounded to bfloat16 in scoring; training in bfloat16 has no rows there.
- *products alone*, where a floor is missed: the ratio if only those products of matrices took time
  that the scores need, at the speed of one large product in the same process. Where it is below
  the floor, the floor is out of this processor's reach.
- *products in float32*: PyTorch's own are what the other side runs on. Where these leave AVX-512
  unused, as they do on processors that are not Intel's, ours take another library
  (`chesboard/cpu/onednn.py`), and the ratio holds what that brings.
- *peak* is the resident memory of the whole process, Python and libraries included (on a GPU: the
  GPU's memory).
- *agreement*: the largest relative difference of the values (CHES, or each step's loss) from those
  of the other side, or Spearman's rank correlation with them. A CHES near zero is what is left of
  two large inner products and has few digits on either side, hence also the largest difference
  as a share of the median value.
- *head*: scoring with what is measured at the output head (head shift, cosine, norms), as a
  multiple of the time without; both compute all other measures and log-probabilities.
- *streaming*: scoring with one layer of the model in memory at a time, read from disk for all
  batches together, against the whole model: the same scores, and the peak without most weights.
- *probes*: seconds at the probes over all other seconds of the same run."""
