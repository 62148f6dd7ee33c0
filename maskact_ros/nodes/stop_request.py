"""`StopRequest`: whether this process has been asked to end."""

from __future__ import annotations

import signal


class StopRequest:
    """SIGINT and SIGTERM, from when it is made; to look at, from any thread.

    A flag, not a `threading.Event`: setting one takes a lock, and a signal that comes while the handler of another
    holds it would wait for that for ever.
    """

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def is_set(self) -> bool:
        """Whether one of them has come."""
        return self._asked

    def set(self) -> None:
        """As if one had come."""
        self._asked = True

    def _ask(self, *_: object) -> None:
        self.set()
