"""Errors of whole files: columns of no known form, and single responses that make no pair."""

import json
from collections.abc import Sequence

from chesboard.formats.columns import Unpaired
from chesboard.formats.guessing import nearest, working_guess
from chesboard.formats.known_forms import KNOWN
from chesboard.formats.mapping import as_mapping
from chesboard.formats.rows import SourceRow


def explain_unknown(found: Sequence[str], rows: Sequence[SourceRow]) -> str:
    """What the columns are, the nearest form and what it lacks, and a mapping that reads a row.

    rows: some rows, to try the mapping out: one that cannot work is not suggested.
    """
    parts = [f"The columns found are {', '.join(found)}."]
    near = nearest(found)
    if near and near.missing:
        columns = " and ".join(f"`{name}`" for name in near.missing)
        parts.append(f"The nearest form is {near.form}, which also needs {columns}.")
    parts.append(f"The forms known are {KNOWN}.")
    guessed = working_guess(found, rows)
    if guessed:
        mapping = json.dumps(as_mapping(guessed), ensure_ascii=False)
        parts.append(f"To read them by another name, send this `mapping`: {mapping}.")
    else:
        parts.append(
            "No two of these columns were recognized as a preferred and a dispreferred response. "
            "If there are such columns, name them with `mapping` (the keys are prompt, preferred "
            "and dispreferred, or candidates with ratings or ranks, or completion with label)."
        )
    return " ".join(parts)


def explain_unpaired(roles: Unpaired) -> str:
    """Why a file of single responses holds no pair."""
    if roles.rating:
        return (
            "The rows are unpaired: one response each, with a rating "
            f"(`{roles.response}`, `{roles.rating}`), and no prompt has two responses with "
            "different ratings. Preference training needs two responses to the same prompt."
        )
    return (
        f"The rows are unpaired (KTO): one response each (`{roles.response}`), desirable or not "
        f"(`{roles.label}`), and no prompt has both. Preference training needs a preferred and a "
        "dispreferred response to the same prompt."
    )
