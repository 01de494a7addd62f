import pytest
import torch

from chesboard.forward import ahead
from chesboard.forward.shared_prefix import decoder_of
from tests.tiny_models import load

FIRST, THEN = torch.arange(3, 10)[None], torch.arange(30, 35)[None]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "cohere", "llama4"])
def test_keys_and_values_are_those_of_a_whole_pass_to_the_last_bit(kind):
    decoder = decoder_of(load(kind))
    with torch.no_grad():
        kept = ahead.keep(decoder, FIRST)
        kept = ahead.keep(decoder, THEN, past=kept)
        whole = decoder(input_ids=FIRST, use_cache=True).past_key_values
        whole = decoder(input_ids=THEN, past_key_values=whole, use_cache=True).past_key_values
    assert len(kept.layers) == len(whole.layers) == 2
    for ours, theirs in zip(kept.layers, whole.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


def test_the_pass_ends_at_the_last_layers_keys_and_the_next_does_not():
    decoder = decoder_of(load())
    seen = []
    for part in (decoder.layers[0].mlp, decoder.layers[1].mlp, decoder.norm):
        part.register_forward_hook(lambda module, _inputs, _output: seen.append(module))
    with torch.no_grad():
        kept = ahead.keep(decoder, FIRST)
        assert seen == [decoder.layers[0].mlp]
        decoder(input_ids=THEN, past_key_values=kept)
    assert seen[1:] == [decoder.layers[0].mlp, decoder.layers[1].mlp, decoder.norm]


def test_gradients_reach_the_weights_of_what_was_kept():
    decoder = decoder_of(load())
    kept = ahead.keep(decoder, FIRST)
    weighted = torch.randn(1, THEN.shape[1], decoder.config.hidden_size)
    (weighted * decoder(input_ids=THEN, past_key_values=kept).last_hidden_state).sum().backward()
    apart = {name: weight.grad.clone() for name, weight in decoder.named_parameters()}
    decoder.zero_grad()
    together = torch.cat([FIRST, THEN], dim=1)
    states = decoder(input_ids=together).last_hidden_state[:, FIRST.shape[1] :]
    (weighted * states).sum().backward()
    for name, weight in decoder.named_parameters():
        # float32, added up in another order
        assert (apart[name] - weight.grad).norm() <= 1e-4 * weight.grad.norm(), name


def test_an_error_in_the_model_is_its_own():
    decoder = decoder_of(load())
    decoder.layers[1].self_attn.k_proj.forward = lambda _states: 1 / 0
    with pytest.raises(ZeroDivisionError):
        ahead.keep(decoder, FIRST)
