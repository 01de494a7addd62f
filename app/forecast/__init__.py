"""Forecasts of the first step from a run's scores, what prevents a fall, and how they came out."""
