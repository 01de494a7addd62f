"""The head's gradient products against autograd in float64, for both forward passes."""

import copy

import pytest
import torch
from torch import Tensor

from chesboard.forward import logprobs
from chesboard.forward.shared_prefix import SharedPrefixForward
from chesboard.forward.two_pass import TwoPassForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from tests.tiny_models import load, random_pairs

PAIRS = random_pairs(7, seed=4)


def head_gradients(loaded: LoadedModel, pair: TokenizedPair) -> tuple[Tensor, Tensor]:
    """Gradients of log p(y+) and log p(y-) with respect to the head's own weight, float64."""
    model = copy.deepcopy(loaded.model).double()
    layer = model.get_output_embeddings()
    # An unembedding of its own, also where the embedding is tied to it.
    weight = layer.weight.detach().clone().requires_grad_()
    found = []
    for response in (pair.preferred_ids, pair.dispreferred_ids):
        ids = torch.tensor([[*pair.prompt_ids, *response]])
        hidden = model(ids, output_hidden_states=True).hidden_states[-1][0].detach()
        at = torch.arange(len(pair.prompt_ids) - 1, ids.shape[1] - 1)
        logits = torch.nn.functional.linear(hidden[at], weight, layer.bias)
        picked = torch.log_softmax(logits, -1)[torch.arange(len(at)), torch.tensor(response)]
        found.append(torch.autograd.grad(picked.sum(), weight)[0])
    return found[0], found[1]


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoPassForward])
@pytest.mark.parametrize("kind", ["llama", "untied llama", "gpt2"])
def test_products_equal_those_of_autograd(kind, path):
    loaded = load(kind)
    with torch.no_grad():
        gram = path(loaded)(PAIRS, gram=True).head_gram
    for b, pair in enumerate(PAIRS):
        preferred, dispreferred = head_gradients(loaded, pair)
        scale = float(preferred.norm() * dispreferred.norm())
        assert float(gram.preferred_B[b]) == pytest.approx(
            float(preferred.square().sum()), rel=1e-4
        )
        assert float(gram.dispreferred_B[b]) == pytest.approx(
            float(dispreferred.square().sum()), rel=1e-4
        )
        expected = float((preferred * dispreferred).sum())
        assert float(gram.cross_B[b]) == pytest.approx(expected, rel=1e-4, abs=1e-5 * scale)


@pytest.mark.parametrize("path", [SharedPrefixForward, TwoPassForward])
def test_the_same_pass_gives_the_same_log_probabilities(path):
    loaded = load("llama")
    with torch.no_grad():
        plain, with_gram = path(loaded)(PAIRS), path(loaded)(PAIRS, gram=True)
    torch.testing.assert_close(
        with_gram.preferred_logprobs_B(), plain.preferred_logprobs_B(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        with_gram.dispreferred_logprobs_B(), plain.dispreferred_logprobs_B(), rtol=1e-5, atol=1e-5
    )


def test_tiles_of_any_size_give_the_same(monkeypatch):
    loaded = load("llama")
    with torch.no_grad():
        whole = SharedPrefixForward(loaded)(PAIRS, gram=True).head_gram
        monkeypatch.setitem(logprobs.TILE_POSITIONS, "cpu", 20)
        monkeypatch.setitem(logprobs.TILE_BYTES, "cpu", 4 * 20 * 7)
        tiled = SharedPrefixForward(loaded)(PAIRS, gram=True).head_gram
    for name in ("preferred_B", "dispreferred_B", "cross_B"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), rtol=1e-5, atol=1e-6)
