"""Judges of a model's answers: by keywords, by a local classifier, or by a chat endpoint."""
