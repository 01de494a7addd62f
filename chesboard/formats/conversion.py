"""What is told of how rows became pairs: the rule, and doubts about what decided."""

from collections import Counter

from chesboard.formats.candidates import AMBIGUOUS_RANKS, fields_of
from chesboard.formats.choices import disagrees, is_by_number
from chesboard.formats.columns import Columns
from chesboard.formats.pairing import Pairing
from chesboard.formats.reshaping import Reshaped
from chesboard.formats.rows import SourceRow
from chesboard.formats.unpaired import is_number_label
from chesboard.formats.wording import counted, in_rows

SYSTEM_FIELDS = frozenset({"system", "system_prompt", "custom_system_prompt"})
"""Fields of a candidate that held its prompt's system turn."""


class Conversion:
    """Counts how the rows of one file became pairs.

    pairing: the rule that was asked for; None: the form's default.
    """

    def __init__(self, pairing: Pairing | None) -> None:
        self._asked = pairing
        self._default: Pairing | None = None
        self._sizes: Counter[int] = Counter()
        self._unrated = 0
        self._pairs = 0
        self._doubts: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    @property
    def pairing(self) -> Pairing | None:
        """The rule by which rows with several responses became pairs; None without such rows, and
        where each held a better and a worse one."""
        return (self._asked or self._default) if self._default else None

    def see_pair(self, of: Reshaped, columns: Columns, *, is_first: bool) -> None:
        """Count a pair; is_first: of its row."""
        spec = columns.candidates
        if spec is None and columns.unpaired is None and of.candidates == 2:
            return
        if (columns.unpaired and columns.unpaired.rating) or (spec and spec.ratings):
            self._default = Pairing("best_worst")
        elif of.candidates > 2:
            self._default = Pairing("best_worst" if spec else "all")
        if spec or of.candidates > 2:
            self._pairs += 1
            if is_first:
                self._sizes[of.candidates] += 1
                self._unrated += of.unrated

    def see_row(self, source: SourceRow, columns: Columns) -> None:
        """Look for doubts about what a row says is preferred."""
        cells = source.columns
        if columns.second_opinion and disagrees(cells, columns):
            self._doubt("disagrees", source)
        if columns.winner and is_by_number(cells, columns):
            self._doubt("by number", source)
        roles = columns.unpaired
        if roles and roles.label and is_number_label(cells, roles.label):
            self._doubt("label", source)
        if columns.candidates:
            for field in SYSTEM_FIELDS & set(fields_of(cells, columns.candidates)):
                self._doubt(field, source)

    def _doubt(self, kind: str, source: SourceRow) -> None:
        self._doubts[kind] += 1
        self._first.setdefault(kind, source.row)

    def notes(self, columns: Columns | None) -> list[str]:
        """How rows became pairs, a sentence each; nothing where each row is a pair by itself."""
        if columns is None:
            return []
        notes = [self._rule(columns)] if self._sizes else []
        if columns.unpaired:
            notes.append(self._unpaired(columns))
        if self._unrated:
            are = "is" if self._unrated == 1 else "are"
            responses = counted(self._unrated, "response")
            notes.append(f"{responses} without a rating {are} left out.")
        if self._asked and self.pairing is None:
            notes.append(f"The rule {self._asked} has no effect: no row holds several responses.")
        return notes

    def _rule(self, columns: Columns) -> str:
        least, most = min(self._sizes), max(self._sizes)
        number = f"{least}" if least == most else f"{least} to {most}"
        rows, pairs = sum(self._sizes.values()), self._pairs
        spec = columns.candidates
        if spec is None:
            return (
                f"{counted(rows, 'row')} of more than two responses: each preferred one makes a "
                f"pair with {self._each()} dispreferred one ({pairs:,} pairs)."
            )
        by = spec.ratings or spec.best
        told = f"`{spec.column}`, by `{by}`" if by else f"`{spec.column}`, the best first"
        kind = "rated" if spec.ratings and not spec.lower_is_better else "ranked"
        if rows == pairs and least == most == 2:
            return f"Each row holds 2 {kind} responses ({told}), which make a pair."
        rule = self._asked or Pairing()
        return f"Each row holds {number} {kind} responses ({told}): {rule.in_words()}."

    def _each(self) -> str:
        return "the first" if self.pairing and self.pairing.rule == "best_worst" else "each"

    def _unpaired(self, columns: Columns) -> str:
        roles = columns.unpaired
        if roles and roles.rating:
            rule = (self._asked or Pairing()).in_words()
            return (
                "Each row holds one response. Those with the same prompt make pairs by "
                f"`{roles.rating}`: {rule}."
            )
        return (
            "Each row holds one response (KTO). Of those with the same prompt, the desirable ones "
            "are paired with the undesirable ones in the order of the file."
        )

    def warnings(self, columns: Columns | None) -> list[str]:
        """Doubts about which response is preferred, a sentence each."""
        if columns is None:
            return []
        found = [self._in_words(kind, rows, columns) for kind, rows in self._doubts.items()]
        spec = columns.candidates
        if spec and spec.best and spec.column.casefold() != "summaries":
            found.append(
                f"`{spec.best}` is read as the position of the best response, counted from 0."
            )
        if spec and (spec.ratings or "").casefold() in AMBIGUOUS_RANKS:
            found.append(
                f"`{spec.ratings}` is read as the rank of each response in turn, 1 for the best. "
                "If it is the order of the responses, write ranks instead."
            )
        return found

    def _in_words(self, kind: str, rows: int, columns: Columns) -> str:
        where = in_rows(rows, self._first[kind])
        if kind == "disagrees" and columns.choice:
            return (
                f"`{columns.second_opinion}` prefers the other response ({where}). The pairs "
                f"follow `{columns.choice[0]}`."
            )
        if kind == "label" and columns.unpaired:
            return (
                f"`{columns.unpaired.label}` holds numbers ({where}): 1 is taken for a desirable "
                "response, 0 for an undesirable one."
            )
        if kind == "by number":
            return (
                f"`{columns.winner}` says 1 or 2 ({where}): 1 is taken for `{columns.preferred}`, "
                f"2 for `{columns.dispreferred}`."
            )
        return (
            f"The responses have a field `{kind}`, the system prompt that each was made with, "
            f"which is not read ({where}): both responses of a pair get the row's prompt alone."
        )
