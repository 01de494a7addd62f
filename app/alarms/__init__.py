"""Alarms of training runs: their rules, what these find, and the messages that are sent of it."""
