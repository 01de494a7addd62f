import pytest
import torch

from chesboard.probing.next_token import next_token_logits
from tests.chesboard import naive
from tests.tiny_models import load

IDS = [5, 9, 3, 77, 41, 20]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_logits_are_those_behind_each_position_alone(kind):
    loaded = load(kind)
    logits = next_token_logits(loaded, IDS, [1, 4])
    for position, row in zip([1, 4], logits, strict=True):
        # a response of one token behind the text up to the position
        seen = naive.read(loaded, IDS[: position + 1], [0])
        torch.testing.assert_close(
            torch.softmax(row.double(), -1), seen.distributions[0], rtol=1e-3, atol=1e-6
        )


def test_a_model_that_cannot_choose_positions_gives_the_same(llama, monkeypatch):
    expected = next_token_logits(llama, IDS, [0, 5])
    forward = llama.model.forward

    def plain(input_ids, use_cache):
        return forward(input_ids=input_ids, use_cache=use_cache)

    monkeypatch.setattr(llama.model, "forward", plain)
    torch.testing.assert_close(next_token_logits(llama, IDS, [0, 5]), expected)
