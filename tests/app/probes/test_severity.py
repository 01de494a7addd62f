"""What a kind of displacement rests on, in a sentence."""

from typing import Any

import pytest

from app.probes.severity import Displacement, severity_sentence, trough_sentence
from chesboard.probing.drawdown import Drawdown


def gains(**changes: float) -> dict[str, float]:
    none = dict.fromkeys(("variant", "own_group", "opposite_group", "mode", "elsewhere"), 0.0)
    return {**none, **changes}


def say(kind: str | None, destination: str | None, gain: float = 0.1, **fields: Any) -> str:
    values: dict[str, Any] = {
        "kind": kind,
        "destination": destination,
        "gains": gains(**{destination: gain}) if destination else None,
        "position": 0,
        "opposite_groups": ("affirmative",),
        **fields,
    }
    return severity_sentence(Displacement(**values), "No")


@pytest.mark.parametrize(
    ("sentence", "fields"),
    [
        (
            "Catastrophic: most mass went to the opposite of “No”, the group “affirmative” "
            "(+0.100).",
            {"kind": "catastrophic", "destination": "opposite_group"},
        ),
        (
            "Catastrophic: the opposite of “No”, the groups “yes”, “sure”, took the lead.",
            {
                "kind": "catastrophic",
                "destination": "elsewhere",
                "opposite_groups": ("yes", "sure"),
            },
        ),
        (
            "Catastrophic: the model's answer refused at first and no longer does.",
            {"kind": "catastrophic", "destination": None, "has_turned": True},
        ),
        (
            "Benign: most mass went to other words of its group (+0.100).",
            {"kind": "benign", "destination": "own_group"},
        ),
        (
            "Benign: most mass went to the token that was likeliest before (+0.100), not to the "
            "group “affirmative”; “the” was the likeliest token already (squeezing).",
            {
                "kind": "benign",
                "destination": "mode",
                "is_squeezed": True,
                "top_gainer": ("the", 0.1),
            },
        ),
        (
            "Benign: most mass went to tokens outside of all groups (+0.100), not to the group "
            "“affirmative”.",
            {"kind": "benign", "destination": "elsewhere"},
        ),
        ("", {"kind": "kept", "destination": None}),
        ("", {"kind": None, "destination": None, "position": None}),
    ],
)
def test_sentences(sentence: str, fields: dict[str, Any]) -> None:
    assert say(**fields) == sentence


def test_a_trough_is_told_only_where_the_ends_do_not_tell_it() -> None:
    down = Drawdown(0.3, 0.5, 0, 0.2, 5)
    one = Displacement("benign", drawdown=down)
    assert trough_sentence(one, "No", fall=0.3) == ""
    assert trough_sentence(Displacement("kept"), "No", fall=-0.1) == ""
    told = "On the way “No” fell from 0.500 at step 0 to 0.200 at step 5."
    assert trough_sentence(one, "No", fall=0.1) == told
    assert trough_sentence(one, "No", fall=-0.4) == told
