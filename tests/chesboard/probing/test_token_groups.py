from chesboard.pairs import Pair
from chesboard.probing.token_groups import resolve_groups
from chesboard.tokenization import tokenize_pairs


def test_word_is_resolved_where_the_context_makes_it_one_token(tokenizer):
    """Behind a line break, b is one token with it and so has no form of its own."""
    pair = tokenize_pairs(tokenizer, [Pair("Say\n", "x", "y")], 64, 64)[0]
    said = []
    groups = resolve_groups(
        tokenizer, pair.prompt_ids, {"g": ["Yes", "esYes"]}, lambda *out: said.append(out)
    )
    assert groups == {"g": [*tokenizer("Yes")["input_ids"], *tokenizer(" Yes")["input_ids"]]}
    assert said == [("g", "esYes")]
