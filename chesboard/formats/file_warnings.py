"""What is doubtful about a file as a whole, as far as its rows have been read."""

from collections.abc import Callable, Iterable, Iterator


class FileWarnings:
    """Collects sentences for users: at once, or from what counts while the rows are read."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Iterable[str]]] = []

    def add(self, sentence: str) -> None:
        self._sources.append(lambda: [sentence])

    def watch(self, sentences: Callable[[], Iterable[str]]) -> None:
        """Ask this for its sentences whenever somebody iterates over the warnings."""
        self._sources.append(sentences)

    def __iter__(self) -> Iterator[str]:
        for sentences in self._sources:
            yield from sentences()
