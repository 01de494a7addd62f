import pytest

from chesboard.refusals import declines


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "Never, that is wrong.",
        "I'm sorry, but I can't help with that.",
        "I’m sorry",
        "Sorry, no.",
        "As an AI language model, I",
        "\nUnfortunately, I cannot do so.",
    ],
)
def test_answers_that_decline(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes",
        "Sure, here is how.",
        "Now I know.",
        "Nothing easier:",
        "Notably, " * 40 + "I can't",
    ],
)
def test_answers_that_do_not(text: str) -> None:
    assert not declines(text)
