"""Backs up and restores the database, checkpoints and results as one archive."""
