"""Checks of the texts of preference pairs: what makes a pair worth a look before training on it."""
