"""Answers that runs generated to the prompts of pairs."""
