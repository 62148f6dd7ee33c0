"""Ctrl-C while a program still imports its libraries, which takes seconds, is no error to show."""

import sys
from types import TracebackType


def end_quietly_on_interrupt() -> None:
    """From now on a KeyboardInterrupt that nobody handles prints no stack trace."""
    sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
