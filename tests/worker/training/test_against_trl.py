"""Losses and gradients against TRL's own DPOTrainer, on the same pairs and the same weights.

TRL is imported inside the tests: it takes seconds, which no other test should wait for.
"""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from chesboard.configs import TrainConfig
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.model import LoadedModel
from chesboard.objectives import PairLogprobs, losses
from chesboard.pairs import TokenizedPair
from tests.benchmarks.baselines import train_with_trl
from tests.tiny_models import GoOn, KeepingReporter, load, random_pairs
from worker.training.loop import train

PAIRS = [pair for pair in random_pairs(9, seed=3) if pair.preferred_ids != pair.dispreferred_ids]


def policy_and_reference() -> tuple[LoadedModel, LoadedModel]:
    """Two models that differ enough for margins of some nats, of both signs."""
    policy, reference = load("untied llama"), load("untied llama")
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.05 * parameter.std() * noise if parameter.ndim >= 2 else 0.0)
    return policy, reference


def trl_gradients(
    policy: LoadedModel,
    reference: LoadedModel,
    pairs: list[TokenizedPair],
    folder: Any,
    **loss: Any,
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of one batch that holds all the pairs, and its gradient, as TRL computes them."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class SameTokens(DPOTrainer):
        def _prepare_dataset(self, dataset, *_args, **_kwargs):
            return dataset

    rows = [
        {
            "prompt_ids": list(pair.prompt_ids),
            "chosen_ids": list(pair.preferred_ids),
            "rejected_ids": list(pair.dispreferred_ids),
        }
        for pair in pairs
    ]
    model = copy.deepcopy(policy.model)
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    trainer = SameTokens(
        model=model,
        ref_model=copy.deepcopy(reference.model),
        args=DPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=len(rows),
            max_length=None,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            disable_dropout=True,
            report_to="none",
            dataloader_pin_memory=False,
            **loss,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )
    [batch] = list(trainer.get_train_dataloader())
    value = trainer.compute_loss(trainer.model, batch)
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


def our_gradients(
    policy: LoadedModel, reference: LoadedModel, pairs: list[TokenizedPair], config: TrainConfig
) -> tuple[float, dict[str, torch.Tensor]]:
    with torch.no_grad():
        at_reference = SharedPrefixForward(reference)(pairs)
    policy.model.zero_grad()
    states = SharedPrefixForward(policy)(pairs)
    preferred_tail_B, dispreferred_tail_B = states.tail_logprobs_B()
    reference_preferred_tail_B, reference_dispreferred_tail_B = at_reference.tail_logprobs_B()
    logprobs = PairLogprobs(
        preferred_B=states.preferred_logprobs_B(),
        dispreferred_B=states.dispreferred_logprobs_B(),
        reference_preferred_B=at_reference.preferred_logprobs_B(),
        reference_dispreferred_B=at_reference.dispreferred_logprobs_B(),
        preferred_tokens_B=torch.tensor([float(len(p.preferred_ids)) for p in pairs]),
        dispreferred_tokens_B=torch.tensor([float(len(p.dispreferred_ids)) for p in pairs]),
        preferred_tail_B=preferred_tail_B,
        dispreferred_tail_B=dispreferred_tail_B,
        reference_preferred_tail_B=reference_preferred_tail_B,
        reference_dispreferred_tail_B=reference_dispreferred_tail_B,
    )
    loss = losses(logprobs, config).mean()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    return loss.item(), gradients


def assert_same(ours: Any, theirs: Any) -> None:
    (loss, gradients), (their_loss, their_gradients) = ours, theirs
    assert loss == pytest.approx(their_loss, rel=1e-4)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        expected = their_gradients[name]
        assert expected.norm() > 0, name
        difference = (gradient - expected).norm() / expected.norm()
        assert difference < 1e-3, f"{name} differs by {difference:.1e}"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"objective": "dpo"}, {"loss_type": "sigmoid"}),
        ({"objective": "slic", "slic_delta": 1.0}, {"loss_type": "hinge"}),
        ({"objective": "ipo", "length_normalize": True}, {"loss_type": "ipo"}),
        ({"objective": "apo_zero"}, {"loss_type": "apo_zero"}),
        (
            {"label_smoothing": 0.2, "robust": True},
            {"loss_type": "robust", "label_smoothing": 0.2},
        ),
        ({"ld_alpha": 0.4}, {"loss_type": "sigmoid", "ld_alpha": 0.4}),
    ],
    ids=[
        "dpo is TRL's sigmoid",
        "slic is TRL's hinge",
        "normalized ipo is TRL's ipo",
        "apo_zero is TRL's",
        "robust is TRL's",
        "ld_alpha is TRL's",
    ],
)
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_loss_and_gradient_equal_those_of_trl(ours, theirs, beta, tmp_path):
    policy, reference = policy_and_reference()
    config = TrainConfig(beta=beta, **ours)
    assert_same(
        our_gradients(policy, reference, PAIRS, config),
        trl_gradients(policy, reference, PAIRS, tmp_path, beta=beta, **theirs),
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"objective": "alphapo", "simpo_gamma": 0.7, "alphapo_alpha": 0.25},
            {"loss_type": "simpo", "simpo_gamma": 0.7, "alpha": 0.25},
        ),
        ({"objective": "dpo", "label_smoothing": 0.2}, {"loss_type": "sigmoid"}),
    ],
    ids=["alphapo is CPO's with alpha", "label smoothing is CPO's"],
)
def test_loss_and_gradient_equal_those_of_trls_cpo(ours, theirs):
    """Its function of log-probabilities alone: per token for alphapo; for dpo, whose reference it
    does not have, the changes against it."""
    from trl.experimental.cpo import CPOTrainer

    config = TrainConfig(beta=1.3, **ours)
    trainer = SimpleNamespace(
        beta=1.3,
        label_smoothing=config.label_smoothing,
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        **{"alpha": 0.0, "simpo_gamma": 0.0} | theirs,
    )
    generator = torch.Generator().manual_seed(4)
    z_w, z_l, *reference = -20 * torch.rand(4, 32, generator=generator, dtype=torch.float64)
    n, m = torch.randint(1, 20, (2, 32), generator=generator).double()
    inputs = z_w.requires_grad_(), z_l.requires_grad_()
    at_B = PairLogprobs(inputs[0], inputs[1], reference[0], reference[1], n, m)
    mine = losses(at_B, config)
    if config.objective == "alphapo":
        read = z_w / n, z_l / m
    else:
        read = z_w - reference[0], z_l - reference[1]
    other, _, _ = CPOTrainer.cpo_loss(trainer, *read)
    torch.testing.assert_close(mine, other)
    gradients = torch.autograd.grad(mine.sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(other.sum(), inputs))


@pytest.mark.parametrize("pair", PAIRS[:3], ids=lambda pair: f"pair {pair.pair}")
def test_normalized_sft_term_equals_that_of_trl(pair, tmp_path):
    """One pair at a time: TRL's term is the mean over a batch's tokens, ours over its pairs."""
    policy, reference = policy_and_reference()
    config = TrainConfig(objective="dpo", beta=0.3, sft_coef=0.4, length_normalize=True)
    theirs = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.4]}
    assert_same(
        our_gradients(policy, reference, [pair], config),
        trl_gradients(policy, reference, [pair], tmp_path, beta=0.3, **theirs),
    )


def test_cross_entropy_of_a_pair_equals_sft_of_trl(tmp_path):
    policy, reference = policy_and_reference()
    config = TrainConfig(objective="cross_entropy", length_normalize=True)
    assert_same(
        our_gradients(policy, reference, PAIRS[:1], config),
        trl_gradients(policy, reference, PAIRS[:1], tmp_path, loss_type="sft"),
    )


def test_a_run_has_the_losses_of_a_run_of_trl(tmp_path):
    """Reference pass, order, AdamW and all: eight steps of two pairs."""
    pairs = random_pairs(16, seed=5)
    config = TrainConfig(
        objective="dpo", learning_rate=3e-3, batch_size=2, shuffle=False, probes={"count": 0}
    )
    reporter = KeepingReporter()
    train(load("untied llama"), pairs, config, reporter, GoOn(), tmp_path, [])
    theirs = load("untied llama")
    theirs.tokenizer.pad_token = theirs.tokenizer.eos_token
    expected = train_with_trl(theirs, pairs, 2, 3e-3, bfloat16=False)
    actual = [metric.loss for metric in reporter.metrics if metric.loss is not None]
    assert max(actual) - min(actual) > 0.1, "a run that does not move proves nothing"
    assert actual == pytest.approx(expected, rel=2e-3, abs=1e-4)
