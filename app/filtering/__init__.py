"""Pairs that training runs dropped because the model came to surpass their preferred responses."""
