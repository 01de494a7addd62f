"""What a kind of study is."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.studies.plans import MadeRun, Plan, Wanted
from app.studies.results import Result


class StudyKind(Protocol):
    """One object a kind, in the registry of app.studies.kinds.

    `wanted` and `result` are functions of the plan and of the study's runs; the session is for
    reading what finished runs recorded, which does not change any more. A study with several
    phases asks for the runs of a later one once those of the earlier have succeeded.
    """

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def plan(self) -> type[Plan]: ...

    @property
    def grows(self) -> tuple[str, ...]:
        """Fields of the plan, lists, that an extension may add to."""
        ...

    def complete(self, session: Session, plan: Any) -> Plan:
        """The plan with everything fixed that depends on what the database holds at present.

        Raises:
            InvalidInputError: it cannot be carried out; names the field.
        """
        ...

    def wanted(self, session: Session, plan: Any, made: Sequence[MadeRun]) -> Wanted: ...

    def result(self, session: Session, plan: Any, made: Sequence[MadeRun]) -> Result: ...
