"""Probes of a training run: series, mass ledgers, bands over all pairs, and headlines."""
