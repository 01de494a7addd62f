"""Verdicts of made-up positions, every number by hand."""

import pytest

from chesboard.probing.destinations import (
    Flow,
    TokenRoles,
    displacement_kind,
    flow,
    masses,
    seem_opposite,
    token_roles,
)

GROUPS = {"affirmative": ["Yes", "Sure"], "negative": ["No", "Never"], "colors": ["red"]}
OPPOSITE = [("affirmative", "negative")]


def roles(
    preferred: str = "No",
    dispreferred: str | None = "no",
    mode: str | None = "Yes",
    opposite: list[tuple[str, str]] = OPPOSITE,
) -> TokenRoles:
    return token_roles(preferred, dispreferred, mode, GROUPS, opposite)


def went(of: TokenRoles, changes: dict[str, tuple[float, float]]) -> Flow:
    before, now = (
        masses(of, ((token, pair[i]) for token, pair in changes.items())) for i in (0, 1)
    )
    return flow(of, before, now)


def kind(of: TokenRoles, where: Flow | None, *, turned: bool = False) -> str | None:
    has_opposite = bool(of.opposite_names)
    return displacement_kind(-0.2, True, where, has_opposite=has_opposite, turned=turned)


def test_tokens_are_told_apart_by_meaning_before_likelihood() -> None:
    of = roles(mode="red")
    tokens = ["No", "no", " NO", "Never", "Yes", "red", "blue"]
    assert [of.part(token) for token in tokens] == [
        "preferred",
        "dispreferred",
        "variant",
        "own_group",
        "opposite_group",
        "mode",
        "elsewhere",
    ]


def test_opposite_holds_in_both_directions_and_only_where_declared() -> None:
    assert roles("Yes").opposite_names == ("negative",)
    assert roles("No").opposite_names == ("affirmative",)
    assert roles("No", opposite=[("negative", "affirmative")]).opposite_names == ("affirmative",)
    assert roles("red").opposite_names == ()
    assert roles("No", opposite=[]).opposite_names == ()


def test_a_spelling_of_a_member_belongs_to_its_group() -> None:
    assert roles(" never.").opposite_names == ("affirmative",)


def test_the_opposite_gains_most() -> None:
    # The starter model's own numbers, rounded: No over no.
    of = roles()
    where = went(
        of, {"No": (0.091, 0.075), "no": (0.12, 0.05), "Yes": (0.5, 0.61), "Sure": (0.084, 0.102)}
    )
    assert where.gains == {
        "variant": 0,
        "own_group": 0,
        "opposite_group": pytest.approx(0.128),
        "mode": 0,
        # 1 - (.091 + .12 + .584) = .205 before, 1 - (.075 + .05 + .712) = .163 now
        "elsewhere": pytest.approx(-0.042),
    }
    assert where.destination == "opposite_group"
    assert kind(of, where) == "catastrophic"


def test_the_opposite_takes_the_lead_though_another_gained_more() -> None:
    of = roles(mode=None)
    where = went(of, {"No": (0.5, 0.2), "no": (0.1, 0.05), "Yes": (0.2, 0.3), "red": (0.0, 0.2)})
    # Before: Yes .2 against No and no, .6. Now: .3 against .25.
    assert (where.destination, where.takes_lead) == ("elsewhere", True)
    assert kind(of, where) == "catastrophic"


def test_an_opposite_that_led_already_does_not_take_the_lead() -> None:
    of = roles(mode=None)
    where = went(of, {"No": (0.2, 0.1), "no": (0.1, 0.0), "Yes": (0.5, 0.51), "red": (0, 0.19)})
    assert (where.destination, where.takes_lead) == ("elsewhere", False)
    assert kind(of, where) == "benign"


@pytest.mark.parametrize(
    ("receiver", "destination"), [(" NO", "variant"), ("Never", "own_group"), ("NO.", "variant")]
)
def test_mass_that_keeps_its_meaning_is_benign(receiver: str, destination: str) -> None:
    of = roles(dispreferred="Yes", mode="the")
    where = went(of, {"No": (0.6, 0.2), "Yes": (0.2, 0.1), receiver: (0.05, 0.5)})
    assert where.destination == destination
    assert kind(of, where) == "benign"


def test_meaning_needs_no_declared_opposite_to_be_benign() -> None:
    of = roles(opposite=[], mode="the")
    where = went(of, {"No": (0.6, 0.2), "no": (0.2, 0.1), "Never": (0.05, 0.5)})
    assert kind(of, where) == "benign"


def test_squeezing_into_the_argmax_is_no_meaning() -> None:
    changes = {"No": (0.3, 0.1), "no": (0.1, 0.05), "the": (0.5, 0.75)}
    of = roles(mode="the")
    where = went(of, changes)
    assert where.destination == "mode"
    assert kind(of, where) == "benign"
    # Nothing says what the opposite would be, so nothing says that this is not it.
    assert kind(roles(mode="the", opposite=[]), where) is None


def test_the_argmax_that_is_opposite_is_called_opposite() -> None:
    of = roles(mode="Yes")
    where = went(of, {"No": (0.3, 0.1), "no": (0.1, 0.05), "Yes": (0.5, 0.75)})
    assert where.destination == "opposite_group"


def test_gains_and_the_responses_own_changes_balance() -> None:
    where = went(roles(), {"No": (0.3, 0.1), "no": (0.1, 0.05), "Yes": (0.2, 0.3)})
    assert sum(where.gains.values()) == pytest.approx(0.2 + 0.05)


def test_an_answer_that_turned_is_catastrophic_wherever_the_mass_went() -> None:
    assert kind(roles(), None, turned=True) == "catastrophic"


def test_without_a_ledger_it_is_not_known() -> None:
    assert kind(roles(), None) is None


def test_a_pair_that_is_not_displaced_is_kept_unless_its_preferred_response_fell() -> None:
    def not_displaced(change: float) -> str | None:
        return displacement_kind(change, False, None, has_opposite=True)

    # No over Never: the preferred response gains .5 nats, though Yes gains too.
    assert not_displaced(0.5) == "kept"
    assert not_displaced(-0.00005) == "kept"
    assert not_displaced(-0.5) is None


def test_a_yes_and_a_no_look_opposite() -> None:
    assert seem_opposite(" yes", "No")
    assert seem_opposite("Never", "Sure")
    assert not seem_opposite("Yes", "Sure")
    assert not seem_opposite("red", "No")
