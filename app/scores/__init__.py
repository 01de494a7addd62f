"""Scores of a run's pairs, their distribution, and the queue of pairs flagged by them."""
