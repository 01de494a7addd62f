"""The measures that the pages show are those that the API serves."""

from app.pages.measures import MEASURES
from app.scores import schemas


def test_every_measure_has_its_label_formula_and_help() -> None:
    assert [measure["name"] for measure in MEASURES] == list(schemas.MEASURES)
    for measure in MEASURES:
        assert all(measure[name] for name in ("label", "short_label", "formula", "help"))
