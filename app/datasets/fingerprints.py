"""Hashes of a pair's texts, by which pairs with the same texts are found."""

import hashlib
import json
import struct
from typing import NamedTuple

from chesboard.pairs import Prompt

_FIRST_HALF = struct.Struct(">q8x").unpack


class TextHashes(NamedTuple):
    """Digests of 128 bits of a pair's texts, and whether the responses are in sorted order."""

    prompt: bytes
    preferred: bytes
    dispreferred: bytes
    is_sorted: bool

    def short(self) -> tuple[int, int, int]:
        """64 bits of each digest, signed."""
        return (
            *_FIRST_HALF(self.prompt),
            *_FIRST_HALF(self.preferred),
            *_FIRST_HALF(self.dispreferred),
        )

    def fingerprint(self) -> int:
        """A hash of 63 bits of the prompt and the unordered responses, and one bit for their order.

        Among a million different pairs, the probability of a collision is about 1 in 10^7.
        """
        responses = (self.preferred, self.dispreferred)
        first, second = responses if self.is_sorted else reversed(responses)
        digest = hashlib.blake2b(self.prompt + first + second, digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True) & ~1 | self.is_sorted


def hash_texts(prompt: Prompt, preferred: str, dispreferred: str) -> TextHashes:
    return TextHashes(
        _digest(json.dumps(prompt)),
        _digest(preferred),
        _digest(dispreferred),
        preferred <= dispreferred,
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
