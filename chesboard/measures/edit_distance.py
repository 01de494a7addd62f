"""Edit distance of the two responses of a pair, over token ids."""

from rapidfuzz.distance import Levenshtein

from chesboard.pairs import TokenizedPair


def normalized_edit_distance(pair: TokenizedPair) -> float:
    """Levenshtein distance of the two token sequences without their end tokens, over the length of
    the longer (`docs/theory.md`, equation 6).

    Insertions, deletions and substitutions of a token cost 1 each. Between 0 (identical, or both
    empty) and 1 (no token in common).
    """
    return float(Levenshtein.normalized_distance(pair.preferred_words, pair.dispreferred_words))
