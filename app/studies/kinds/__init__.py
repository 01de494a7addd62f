"""The kinds of studies. A new one is an object with the methods of `base.StudyKind`, and a line
in the registry."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from app.core.errors import NotFoundError
from app.core.json_body import JsonBody
from app.studies.kinds.base import StudyKind
from app.studies.kinds.remedy_bench import RemedyBench, RemedyBenchPlan
from app.studies.kinds.similarity import Similarity, SimilarityPlan
from app.studies.kinds.single_pair import SinglePair, SinglePairPlan
from app.studies.kinds.unalignment import Unalignment
from app.studies.kinds.unalignment_plan import UnalignmentPlan

KINDS: Mapping[str, StudyKind] = {
    kind.name: kind for kind in (SinglePair(), Similarity(), Unalignment(), RemedyBench())
}

AnyPlan = Annotated[
    JsonBody[SinglePairPlan]
    | JsonBody[SimilarityPlan]
    | JsonBody[UnalignmentPlan]
    | JsonBody[RemedyBenchPlan],
    Field(discriminator="kind"),
]
"""The plan of any kind, as a request's body has it."""


def kind_of(name: str) -> StudyKind:
    """Raises:
    NotFoundError: this version has no such kind.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise NotFoundError(
            f"This version knows no studies of the kind {name!r}. There are: {', '.join(KINDS)}."
        )
    return kind
