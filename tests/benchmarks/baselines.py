"""What people use today, written as they use it: the other side of every benchmark.

Nothing here is imported by the product.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair


@dataclass
class NaiveScore:
    ches: float
    preferred_logprob: float
    dispreferred_logprob: float


@torch.inference_mode()
def score_one_at_a_time(loaded: LoadedModel, pairs: list[TokenizedPair]) -> list[NaiveScore]:
    """CHES by two full forwards a pair with all hidden states and logits.

    This is how the paper's own script goes about it (princeton-nlp/unintentional-unalignment,
    one example at a time), with the sums in float32.
    """
    return [_score(loaded, pair) for pair in pairs]


def _score(loaded: LoadedModel, pair: TokenizedPair) -> NaiveScore:
    sums, logprobs = [], []
    for response in (pair.preferred_ids, pair.dispreferred_ids):
        ids = torch.tensor([[*pair.prompt_ids, *response]], device=loaded.device)
        output = loaded.model(ids, output_hidden_states=True)
        start = len(pair.prompt_ids) - 1
        sums.append(output.hidden_states[-1][0, start:-1].float().sum(0))
        logits_RV = output.logits[0, start:-1].float().log_softmax(-1)
        target = torch.tensor(response, device=loaded.device)
        logprobs.append(float(logits_RV.gather(1, target[:, None]).sum()))
    return NaiveScore(float(sums[0] @ (sums[1] - sums[0])), logprobs[0], logprobs[1])


def train_with_trl(
    loaded: LoadedModel,
    pairs: list[TokenizedPair],
    batch_size: int,
    learning_rate: float,
    bfloat16: bool,
    callbacks: Sequence[Any] = (),
) -> list[float]:
    """TRL's DPOTrainer on the same token ids in the same order.

    Reference log-probabilities are precomputed, as the fastest way that TRL offers; computing
    them is part of what is measured. Returns each step's loss.
    """
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    class SameTokensSameOrder(DPOTrainer):
        """Takes token ids as they are, so that both sides train on the very same ones."""

        def _prepare_dataset(self, dataset, *_args, **_kwargs):
            return dataset

        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    rows = Dataset.from_list(
        [
            {
                "prompt_ids": list(pair.prompt_ids),
                "chosen_ids": list(pair.preferred_ids),
                "rejected_ids": list(pair.dispreferred_ids),
            }
            for pair in pairs
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            precompute_ref_batch_size=batch_size,
            precompute_ref_log_probs=True,
            learning_rate=learning_rate,
            lr_scheduler_type="constant",
            optim="adamw_torch",
            weight_decay=0.0,
            max_grad_norm=0.0,
            num_train_epochs=1,
            beta=0.1,
            max_length=None,
            bf16=bfloat16,
            use_cpu=loaded.device.type == "cpu",
            gradient_checkpointing=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = SameTokensSameOrder(
            model=loaded.model,
            args=arguments,
            train_dataset=rows,
            processing_class=loaded.tokenizer,
            callbacks=list(callbacks),
        )
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
