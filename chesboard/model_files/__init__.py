"""What is in a model's folder, and why it can or cannot be used: from headers and JSON alone.

Web side and worker ask here, so that a run is refused before it is queued for the reason for which
it would fail. Nothing here imports torch or transformers, and no weights are read.
"""
