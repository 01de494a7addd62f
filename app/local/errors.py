"""The error of every local command: what the user can put right, told in one line."""


class SetupError(Exception):
    """A requirement of a command is not met; the message is one line for the user."""
