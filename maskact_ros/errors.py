"""The base of every error a user can cause: its text is the one sentence that the user reads."""


class MaskACTError(Exception):
    """Something the user can mend; commands and nodes print its text, never a stack trace."""
