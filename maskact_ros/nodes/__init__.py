"""The ROS 2 nodes: parameters, subscriptions, one call into the library, publications."""

import sys
from types import TracebackType


def _quiet_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


# Ctrl-C while a node still imports its libraries, which takes seconds, is no error to show.
sys.excepthook = _quiet_interrupt
