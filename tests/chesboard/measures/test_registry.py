"""The registry of measures: one entry a name, a field of the record each, and no torch."""

import subprocess
import sys
from dataclasses import fields

from chesboard.measures.registry import MEASURE_NAMES, MEASURES, SIMILARITY_MEASURES
from chesboard.records import ScoreRecord


def test_every_name_has_one_entry_in_the_same_order() -> None:
    assert tuple(measure.name for measure in MEASURES) == MEASURE_NAMES


def test_similarity_measures_are_those_with_a_similar_end() -> None:
    assert tuple(m.name for m in MEASURES if m.similar_end is not None) == SIMILARITY_MEASURES


def test_every_measure_is_a_field_of_the_score_record() -> None:
    assert set(MEASURE_NAMES) <= {field.name for field in fields(ScoreRecord)}


def test_the_registry_and_the_configurations_import_no_torch() -> None:
    program = (
        "import sys, chesboard.measures.registry, chesboard.configs;"
        "raise SystemExit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
