"""The documentation names what is there: every room, every setting, every linked file."""

import re
from pathlib import Path

import pytest

from app.core.settings import Settings
from tests import PROJECT_ROOT

DOCUMENTS = sorted(
    [*PROJECT_ROOT.glob("*.md"), *(PROJECT_ROOT / "docs").rglob("*.md")],
)


def rooms() -> set[str]:
    """Every package of the three parts."""
    return {
        str(path.parent.relative_to(PROJECT_ROOT)) + "/"
        for part in ("app", "chesboard", "worker")
        for path in (PROJECT_ROOT / part).rglob("__init__.py")
    }


def test_the_architecture_names_every_room_and_no_other() -> None:
    text = (PROJECT_ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `((?:app|chesboard|worker)/[a-z_/]*)` \|", text, re.MULTILINE))
    assert named == rooms()


def test_the_picture_shows_every_room_at_the_top_of_its_part() -> None:
    text = (PROJECT_ROOT / "docs" / "architecture.md").read_text()
    picture = text.split("```")[1]
    shown = set(re.findall(r"\b([a-z_]+)/", picture))
    top = {room.split("/")[1] for room in rooms() if room.count("/") == 2}
    # The address of the API is in the picture too.
    assert shown - {"api"} == top | {"app", "chesboard", "worker"}


def test_every_setting_is_documented() -> None:
    text = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    missing = [name for name in Settings.model_fields if f"{name.upper()}`" not in text]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_decisions_are_listed_and_have_every_part() -> None:
    folder = PROJECT_ROOT / "docs" / "decisions"
    decisions = sorted(folder.glob("[0-9]*.md"))
    assert len(decisions) >= 6
    for path in decisions:
        assert path.name in (folder / "README.md").read_text()
        headings = re.findall(r"^## (\w+)", path.read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives"]
        assert len(path.read_text().splitlines()) <= 70, path
