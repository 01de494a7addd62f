"""Statistics of a dataset."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.statistics import Statistics
from chesboard.formats.rows import PairRow


@settings(deadline=None)  # A busy machine is not a failure.
@given(st.lists(st.sampled_from(["a", "ä", "x" * 500]), min_size=1, max_size=40))
def test_statistics_account_for_every_pair(responses: list[str]) -> None:
    statistics = Statistics()
    for row, response in enumerate(responses, start=1):
        statistics.see_pair(PairRow(row, "text", "p", response, "other", {}))
    described = statistics.as_dict()
    lengths = sorted(map(len, responses))
    preferred = described["characters"]["preferred"]
    assert sum(preferred["histogram"]["counts"]) == len(responses)
    assert (preferred["min"], preferred["max"]) == (lengths[0], lengths[-1])
    assert lengths[0] <= preferred["median"] <= lengths[-1]
    assert len(preferred["histogram"]["counts"]) <= 21
