"""The bundled sample datasets."""

from dataclasses import dataclass
from pathlib import Path

from app.core.errors import NotFoundError
from app.store.lookup import there_is_no

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    description: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.jsonl"

    @property
    def pairs(self) -> int:
        """Every line is a usable pair (checked by a test)."""
        return len(self.path.read_bytes().splitlines())


SAMPLES = (
    Sample(
        "yes-no-words",
        "Yes/no questions whose two responses are one word each: “No” over “Never”, “Yes” over "
        "“Sure”. Training one of its pairs shows where the probability goes.",
    ),
    Sample(
        "sentences",
        "Whole-sentence responses, some near-identical, some clearly different, so that CHES has "
        "something to rank.",
    ),
)


def get_sample(name: str) -> Sample:
    """Raises:
    NotFoundError: no such sample; the message lists those there are.
    """
    for sample in SAMPLES:
        if sample.name == name:
            return sample
    known = ", ".join(sample.name for sample in SAMPLES)
    raise NotFoundError(f"{there_is_no('sample', repr(name))} There are: {known}.")
