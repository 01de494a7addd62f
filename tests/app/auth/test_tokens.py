"""Access tokens are read as they are written, and a session is valid as it was signed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.permissions import Role
from app.auth.tokens import Keyring, Token, TokenFileError, new_session
from app.core.settings import Settings
from tests.support import OPERATOR_TOKEN


def test_a_tokens_file_names_people(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(
        "# who may what\n\nviewer  grace  token-of-grace\noperator\tada token-of-ada \n"
    )
    keyring = Keyring.of(Settings(tokens_file=file, viewer_token="everybody-else"))
    ada = keyring.by_secret("token-of-ada")
    assert ada is not None
    assert (ada.name, ada.role) == ("ada", Role.OPERATOR)
    assert keyring.by_secret("token-of") is None
    assert keyring.by_secret("") is None
    assert keyring.strongest() == "token-of-ada"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("viewer grace", "line 1: expected"),
        ("viewer a b c", "line 1: expected"),
        ("# fine\nowner ada token-of-ada", "line 2: expected"),
        ("viewer ada secret", "line 1: a token has at least 8 characters"),
        ("viewer ada same-secret\noperator grace same-secret", "given twice"),
    ],
)
def test_a_tokens_file_that_is_wrong_is_told_without_its_secrets(
    tmp_path: Path, lines: str, words: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(lines)
    with pytest.raises(TokenFileError, match=words) as refused:
        Keyring.of(Settings(tokens_file=file))
    assert "secret" not in str(refused.value)


def test_a_tokens_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="cannot be read"):
        Keyring.of(Settings(tokens_file=tmp_path / "none"))


def test_without_a_token_there_is_no_keyring() -> None:
    assert not Keyring.of(Settings())
    assert Keyring.of(Settings()).strongest() is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_session_that_was_tampered_with_is_none(place: int, flip: int) -> None:
    token = Token("operator", Role.OPERATOR, OPERATOR_TOKEN)
    keyring = Keyring([token])
    good = new_session(token)
    assert keyring.by_session(good) is not None
    place %= len(good)
    bad = good[:place] + chr(ord(good[place]) ^ flip) + good[place + 1 :]
    assert keyring.by_session(bad) is None


def test_a_session_says_nothing_of_its_token_and_two_are_different() -> None:
    token = Token("operator", Role.OPERATOR, "operators-secret")
    one, two = new_session(token), new_session(token)
    assert one != two
    assert token.secret not in one
    assert token.name not in one
