"""How much memory a run needs, from a model's configuration and headers alone: no torch."""
