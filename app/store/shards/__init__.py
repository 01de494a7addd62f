"""Runs that all idle workers do at once: the parts that they are cut into, and who has which."""
