"""Verdicts on generated answers, agreement of judges, and datasets of judged answers."""
