"""`StopRequest`: whether this process has been asked to end."""

from __future__ import annotations

import signal
import time


def end_signals() -> list[signal.Signals]:
    """The signals that end a process: SIGINT, SIGTERM, and SIGHUP of a closed terminal unless it is ignored (nohup)."""
    heeds_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if heeds_terminal else [])]


class StopRequest:
    """A flag that SIGINT, SIGTERM and SIGHUP set, from its construction on; any thread may read it.

    It is no `threading.Event`: setting one takes a lock, and a second signal during that would wait for the lock for
    ever.
    """

    def __init__(self) -> None:
        self._asked = False
        self.asked_s = 0.0  # when the first one came, on the steady clock
        for number in end_signals():
            signal.signal(number, self._ask)

    def is_set(self) -> bool:
        """Whether one of the signals has come."""
        return self._asked

    def set(self) -> None:
        """Set the flag without a signal."""
        self.asked_s = self.asked_s or time.monotonic()
        self._asked = True

    def _ask(self, *_: object) -> None:
        self.set()
