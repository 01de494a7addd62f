"""What watching pairs costs a training run: four probes at the default cadence.

The time at the probes is taken inside one run, because two runs on a machine that is not quiet
differ by more than the few percent that are asked about.
"""

from tests.benchmarks.measuring import Row, compare

COUNT = 80
MOST = 0.05


def rows(model: str, workloads: list[str], rounds: int) -> list[Row]:
    if "persona" not in workloads:
        return []
    measured = compare("persona", COUNT, ["probes float32"], model, rounds)["probes float32"]
    floor = f"{MOST:.0%} at most"
    return [
        Row(
            "probes",
            "persona",
            COUNT,
            "4 probes every 10 steps, 10 steps",
            measured.seconds,
            f"{measured.probe_share:+.1%} time",
            floor if measured.probe_share <= MOST else f"{floor}, missed",
            measured.peak_mib,
            "",
        )
    ]
