from chesboard.configs import LedgerPositions
from chesboard.probing.probes import ledger_positions
from tests.tiny_models import END, make_pair


def test_all_positions_are_the_first_32():
    pair = make_pair(0, [1], [*range(40), END], [50, END])
    asked = ledger_positions(pair, LedgerPositions(preferred="all", dispreferred="all"))
    assert asked == {"preferred": list(range(32)), "dispreferred": [0, 1]}
    assert ledger_positions(pair, None) == {"preferred": [0], "dispreferred": [0]}
