"""Findings of runs: what tokenizing each pair under the run's model showed."""
