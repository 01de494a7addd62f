"""The formulas give the numbers of the test vectors in docs/theory.md."""

import json
import re
from pathlib import Path

import pytest
import torch

from chesboard.measures.ches import (
    ches,
    last_hidden_inner_product,
    length_normalized_ches,
    predicting_positions,
)

THEORY = Path(__file__).parents[3] / "docs" / "theory.md"
FORMULAS = {
    "ches": ches,
    "ln_ches": length_normalized_ches,
    "last_hidden_inner_product": last_hidden_inner_product,
}


def read_vectors():
    section = THEORY.read_text(encoding="utf-8").partition("## Test vectors")[2]
    blocks = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 1
    return json.loads(blocks[0])


def predicting_states(side, dtype):
    hidden_LD = torch.tensor(side["hidden"], dtype=dtype).repeat(side.get("repeat", 1), 1)
    return hidden_LD[predicting_positions(side["P"], side["n"], side.get("left padding", 0))]


@pytest.mark.parametrize("measure", FORMULAS)
@pytest.mark.parametrize("vector", read_vectors(), ids=lambda vector: vector["name"])
def test_the_formulas_give_the_documented_numbers(vector, measure):
    dtype = getattr(torch, vector.get("dtype", "float32"))
    sides = [predicting_states(vector[side], dtype) for side in ("preferred", "dispreferred")]
    assert [len(hidden) for hidden in sides] == [
        vector[side]["n"] for side in ("preferred", "dispreferred")
    ]
    value = FORMULAS[measure](*sides)
    assert value.dtype == torch.float64
    tolerance = vector.get("relative tolerance", 0.0)
    assert value.item() == pytest.approx(vector[measure], rel=tolerance, abs=0)


def test_the_vectors_cover_what_goes_wrong():
    names = " ".join(vector["name"] for vector in read_vectors())
    for trap in (
        "end token",
        "padded at the left",
        "padded at the right",
        "truncation",
        "bfloat16",
    ):
        assert trap in names


@pytest.mark.parametrize("shapes", [((0, 2), (1, 2)), ((1, 2), (1, 3)), ((2,), (1, 2))], ids=str)
def test_states_that_are_no_two_matrices_of_one_width_are_refused(shapes):
    with pytest.raises(ValueError, match="two matrices of one width"):
        ches(*(torch.zeros(shape) for shape in shapes))
