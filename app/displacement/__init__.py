"""Measured displacement: each trained pair after a run, compared with its score before it."""
