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
  the project asks for. Those for bfloat16 were set on a processor that has AMX; one with AVX-512
  BF16 alone computes it at twice the speed of float32, one without either at half.
- *peak* is the resident memory of the whole process, Python and libraries included (on a GPU: the
  GPU's memory).
- *agreement*: the largest relative difference of the values (CHES, or each step's loss) from those
  of the other side, or Spearman's rank correlation with them.
- *probes*: seconds at the probes over all other seconds of the same run."""
