"""What pairs of a dataset that share a prompt or a response say about each other.

Texts are compared by 64 bits of a hash. Among a million texts, the probability of a collision is
about 1 in 10^7.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MIN_REUSED = 60
"""A response of fewer characters is often another prompt's too, and means nothing."""


class Related(NamedTuple):
    """A pair, and the first other pair to which it is related."""

    pair: int
    other: int


class Relations:
    """The hashes of a dataset's texts, 24 bytes a pair, in the order of the pairs."""

    def __init__(self) -> None:
        self._prompts = array("q")
        self._preferred = array("q")
        self._dispreferred = array("q")
        self._is_short: set[int] = set()

    def see(self, prompt: int, preferred: tuple[int, int], dispreferred: tuple[int, int]) -> None:
        """Take the hashes of the next pair; responses as (hash, characters)."""
        self._prompts.append(prompt)
        for hashes, (value, characters) in (
            (self._preferred, preferred),
            (self._dispreferred, dispreferred),
        ):
            # 0: not looked at. A hash is 0 once in 10^19 texts.
            hashes.append(value)
            if characters < MIN_REUSED:
                self._is_short.add(value)

    def repeated_prompts(self) -> Iterator[Related]:
        """Pairs with the prompt of an earlier one, and other responses."""
        for pairs in self._by_prompt().values():
            first = pairs[0]
            known = {self._responses(first)}
            for pair in pairs[1:]:
                if self._responses(pair) not in known:
                    known.add(self._responses(pair))
                    yield Related(pair, first)

    def circles(self) -> Iterator[Related]:
        """Pairs of one prompt that prefer in a circle of three responses or more.

        The pair and its plain contradiction, a circle of two, are not reported.
        """
        for pairs in self._by_prompt().values():
            edges: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
            for pair in pairs:
                edges[self._preferred[pair], self._dispreferred[pair]].append(pair)
            circle_of = _components(edges)
            in_circle: defaultdict[int, list[int]] = defaultdict(list)
            told: list[tuple[int, int]] = []
            for (better, worse), found in edges.items():
                circle = circle_of[better]
                if circle == circle_of[worse]:
                    in_circle[circle] += found
                    if (worse, better) not in edges:
                        told += ((pair, circle) for pair in found)
            for pair, circle in told:
                yield Related(pair, next(other for other in in_circle[circle] if other != pair))

    def reused_responses(self) -> Iterator[Related]:
        """Pairs with a response that is also a response to another prompt."""
        times = Counter(self._preferred)
        times.update(self._dispreferred)
        repeated = {value for value, count in times.items() if count > 1} - self._is_short
        users: defaultdict[int, list[int]] = defaultdict(list)
        for pair, both in enumerate(zip(self._preferred, self._dispreferred, strict=True)):
            for value in repeated.intersection(both):
                users[value].append(pair)
        found: dict[int, int] = {}
        for pairs in users.values():
            first_of = {self._prompts[pair]: pair for pair in reversed(pairs)}
            for pair in pairs if len(first_of) > 1 else ():
                other = next(
                    first for prompt, first in first_of.items() if prompt != self._prompts[pair]
                )
                found.setdefault(pair, other)
        return (Related(pair, found[pair]) for pair in sorted(found))

    def _by_prompt(self) -> Mapping[int, Sequence[int]]:
        """The pairs of each prompt that more than one pair has."""
        times = Counter(self._prompts)
        pairs: defaultdict[int, list[int]] = defaultdict(list)
        if len(times) < len(self._prompts):
            for pair, prompt in enumerate(self._prompts):
                if times[prompt] > 1:
                    pairs[prompt].append(pair)
        return pairs

    def _responses(self, pair: int) -> frozenset[int]:
        return frozenset((self._preferred[pair], self._dispreferred[pair]))


def _components(edges: Mapping[tuple[int, int], object]) -> dict[int, int]:
    """The strongly connected component of each node, by a node of it (Kosaraju's algorithm)."""
    after: defaultdict[int, list[int]] = defaultdict(list)
    before: defaultdict[int, list[int]] = defaultdict(list)
    nodes: dict[int, None] = {}
    for source, target in edges:
        after[source].append(target)
        before[target].append(source)
        nodes[source] = nodes[target] = None
    component: dict[int, int] = {}
    for root in reversed(_finishing_order(nodes, after)):
        waiting = [root] if root not in component else []
        while waiting:
            node = waiting.pop()
            if node not in component:
                component[node] = root
                waiting += [other for other in before[node] if other not in component]
    return component


def _finishing_order(nodes: Mapping[int, None], after: Mapping[int, list[int]]) -> list[int]:
    """The nodes in the order in which a depth-first search leaves them."""
    order: list[int] = []
    seen: set[int] = set()
    for root in nodes:
        # Without recursion: a prompt may have thousands of responses.
        waiting = [(root, False)]
        while waiting:
            node, is_left = waiting.pop()
            if is_left:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                waiting.append((node, True))
                waiting += [(other, False) for other in after.get(node, ())]
    return order
