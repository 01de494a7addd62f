"""Answers of a model to prompts, sampled or greedy, of which each depends on its own seed alone."""
