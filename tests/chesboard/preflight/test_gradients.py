"""Changes along many directions at once, against forward mode, which follows each by itself."""

import copy

import psutil
import pytest
import torch

from chesboard.configs import PreflightConfig
from chesboard.forward.select import select_forward
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.preflight import gradients
from chesboard.preflight.direction import first_step
from chesboard.preflight.gradients import changes_along, directions_at_once, inner_products
from tests.forward_mode import response_changes
from tests.tiny_models import BUILDERS, load, random_pairs

PAIRS = [pair for pair in random_pairs(6, seed=2) if not pair.has_same_tokens]


def steps(loaded: LoadedModel, forward, count: int = len(PAIRS)):
    config = PreflightConfig(optimizer="adamw", learning_rate=1e-3)
    return [first_step(loaded, forward, pair, config)[1] for pair in PAIRS[:count]]


def expect_the_changes_of_forward_mode(loaded, forward, directions, tolerance):
    followed = [response_changes(loaded, forward, PAIRS, direction) for direction in directions]
    for b, pair in enumerate(PAIRS):
        found = changes_along(loaded, forward, pair, directions)
        expected = [(float(one.preferred[b]), float(one.dispreferred[b])) for one in followed]
        torch.testing.assert_close(
            torch.tensor(found),
            torch.tensor(expected),
            rtol=tolerance,
            atol=tolerance * max(abs(change) for row in expected for change in row),
        )


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoPassForward])
@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2", "cohere"])
def test_they_are_those_of_forward_mode(kind, path):
    loaded = load(kind)
    forward = path(loaded)
    expect_the_changes_of_forward_mode(loaded, forward, steps(loaded, forward), 1e-5)


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_architecture_goes_by_the_path_that_it_is_computed_by(kind):
    loaded = load(kind)
    forward, _ = select_forward(loaded, PAIRS)
    expect_the_changes_of_forward_mode(loaded, forward, steps(loaded, forward, 2), 1e-3)


def test_long_prompts_are_prefilled_with_their_gradients():
    loaded = load("llama")
    forward = SharedPrefixForward(loaded, min_saved_tokens=1, min_prefill_tokens=2)
    expect_the_changes_of_forward_mode(loaded, forward, steps(loaded, forward, 2), 1e-5)


def test_another_direction_beside_it_changes_no_bit():
    loaded = load("llama")
    forward = SharedPrefixForward(loaded)
    directions = steps(loaded, forward)
    together = changes_along(loaded, forward, PAIRS[0], directions)
    for direction, found in zip(directions, together, strict=True):
        assert changes_along(loaded, forward, PAIRS[0], [direction]) == [found]


def test_the_model_is_the_same_afterwards():
    loaded = load("llama")
    loaded.model.requires_grad_(False)
    before = copy.deepcopy(loaded.model.state_dict())
    forward = SharedPrefixForward(loaded)
    changes_along(loaded, forward, PAIRS[0], steps(loaded, forward))
    for name, weight in loaded.model.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert all(weight.grad is None for weight in loaded.model.parameters())


def test_sums_are_taken_in_pieces_and_added_in_float64(monkeypatch):
    # Summed in float32 one after the other, 10 + 1e-8 + 1e-8 + ... would stay 10.
    monkeypatch.setitem(gradients.PIECE, "cpu", 10)
    direction = {"a": torch.cat([torch.ones(10), torch.full((9990,), 1e-8)]).view(100, 100)}
    gradient = {"a": torch.ones(100, 100)}
    (found,) = inner_products([direction], [gradient])
    assert float(found) == pytest.approx(10 + 9990e-8, rel=1e-9)


def test_products_of_every_direction_with_every_gradient(monkeypatch):
    monkeypatch.setitem(gradients.PIECE, "cpu", 7)
    torch.manual_seed(0)
    shapes = {"a": (5, 4), "b": (3,), "c": (1, 29)}
    sides = [[{n: torch.randn(s) for n, s in shapes.items()} for _ in range(k)] for k in (4, 2)]
    flat = [
        torch.stack([torch.cat([one[n].flatten() for n in shapes]) for one in s]) for s in sides
    ]
    torch.testing.assert_close(
        inner_products(*sides), flat[0].double() @ flat[1].double().T, rtol=1e-5, atol=1e-5
    )


def test_as_many_directions_as_fit_into_half_of_what_is_free(monkeypatch):
    loaded = load("llama")
    size = sum(weight.nbytes for weight in loaded.model.parameters())

    def at_once(free: int) -> int:
        memory = type("Memory", (), {"available": free})
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        return directions_at_once(loaded)

    assert at_once(0) == 1
    assert at_once(20 * size) == 8
