"""Datasets of the Hugging Face hub: splits, and their download, verified and stoppable."""

PREFIX = "hub:"
"""Before the name of a dataset, where a file could be named too."""
