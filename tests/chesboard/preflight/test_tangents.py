"""Forward mode, that of the tests too, against gradients of autograd in float64 and against finite
differences."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from chesboard.configs import PreflightConfig
from chesboard.forward.select import select_forward
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.preflight.direction import first_step
from chesboard.preflight.tangents import fork_change
from tests.forward_mode import response_changes
from tests.tiny_models import BUILDERS, load, random_pairs

PAIRS = [pair for pair in random_pairs(6, seed=2) if not pair.has_same_tokens]


def double(loaded: LoadedModel) -> torch.nn.Module:
    model: torch.nn.Module = copy.deepcopy(loaded.model).double()
    return model


def logprob(model: torch.nn.Module, prompt: list[int], response: list[int]) -> Tensor:
    ids = torch.tensor([[*prompt, *response]])
    logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logits[torch.arange(len(response)), torch.tensor(response)].sum()


def sides(pair: TokenizedPair) -> Iterator[tuple[list[int], list[int]]]:
    yield pair.prompt_ids, pair.preferred_ids
    yield pair.prompt_ids, pair.dispreferred_ids


def random_direction(loaded: LoadedModel, size: float = 1e-2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: size * torch.randn(weight.shape, generator=generator)
        for name, weight in loaded.model.named_parameters()
    }


def products(loaded: LoadedModel, pair: TokenizedPair, direction: dict[str, Tensor]) -> list[float]:
    """<grad log p, direction> of both responses by reverse mode in float64."""
    model = double(loaded)
    weights = dict(model.named_parameters())
    found = []
    for side in sides(pair):
        gradients = torch.autograd.grad(
            logprob(model, *side), list(weights.values()), allow_unused=True
        )
        parts = zip(weights, gradients, strict=True)
        found.append(sum(float((g * direction[n]).sum()) for n, g in parts if g is not None))
    return found


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoPassForward])
@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2", "cohere"])
def test_changes_are_inner_products_with_the_gradients(kind, path):
    loaded = load(kind)
    direction = random_direction(loaded)
    changes = response_changes(loaded, path(loaded), PAIRS, direction)
    for b, pair in enumerate(PAIRS):
        expected = products(loaded, pair, direction)
        found = float(changes.preferred[b]), float(changes.dispreferred[b])
        size = max(map(abs, expected))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4 * size)


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_architecture_is_followed_by_the_path_that_it_is_computed_by(kind):
    loaded = load(kind)
    forward, _ = select_forward(loaded, PAIRS)
    direction = random_direction(loaded, 1e-3)
    changes = response_changes(loaded, forward, PAIRS[:2], direction)
    for b, pair in enumerate(PAIRS[:2]):
        expected = products(loaded, pair, direction)
        found = float(changes.preferred[b]), float(changes.dispreferred[b])
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3 * max(map(abs, expected)))


def test_changes_are_the_limit_of_finite_differences():
    loaded = load("gpt2")  # Llama's norms are in float32 whatever the model is in
    direction = random_direction(loaded)
    changes = response_changes(loaded, SharedPrefixForward(loaded), PAIRS, direction)
    model, step = double(loaded), 1e-5
    both = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, weight in moved.named_parameters():
                weight.add_(direction[name], alpha=sign * step)
            both.append([float(logprob(moved, *next(sides(pair)))) for pair in PAIRS])
    expected = [(up - down) / (2 * step) for up, down in zip(*both, strict=True)]
    assert changes.preferred.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_the_whole_distribution_at_the_fork_moves_as_finite_differences_say(kind):
    loaded = load(kind)
    pair = PAIRS[0]
    direction = random_direction(loaded, 1e-3)
    probs_V, change_V = fork_change(loaded, pair, direction)
    assert float(change_V.sum()) == pytest.approx(0, abs=1e-9)
    ids = torch.tensor([[*pair.prompt_ids, *pair.preferred_ids[: pair.fork_position]]])
    step, seen = 1e-2, []
    for sign in (1, -1):
        moved = double(loaded)
        with torch.no_grad():
            for name, weight in moved.named_parameters():
                weight.add_(direction[name], alpha=sign * step)
            seen.append(moved(ids, use_cache=False).logits[0, -1].softmax(-1))
    expected_V = (seen[0] - seen[1]) / (2 * step)
    torch.testing.assert_close(probs_V, (seen[0] + seen[1]) / 2, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(change_V, expected_V, rtol=1e-3, atol=1e-3 * expected_V.abs().max())


def test_the_model_is_the_same_afterwards():
    loaded = load("llama")
    loaded.model.requires_grad_(False)
    before = copy.deepcopy(loaded.model.state_dict())
    forward = SharedPrefixForward(loaded)
    _, direction = first_step(loaded, forward, PAIRS[0], PreflightConfig())
    response_changes(loaded, forward, PAIRS, direction)
    fork_change(loaded, PAIRS[0], direction)
    for name, weight in loaded.model.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert all(isinstance(weight, torch.nn.Parameter) for weight in loaded.model.parameters())
