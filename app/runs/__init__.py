"""Runs: creating, listing, cancelling and resuming them, their metrics, pairs and results."""
