"""`StopRequest`: whether this process has been asked to end."""

from __future__ import annotations

import signal
import time


def end_signals() -> list[signal.Signals]:
    """What asks a process to end: Ctrl-C, `kill`, and a terminal that closes, unless started to outlive that."""
    heeds_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if heeds_terminal else [])]


class StopRequest:
    """SIGINT, SIGTERM and SIGHUP, from when it is made; to look at, from any thread.

    A flag, not a `threading.Event`: setting one takes a lock, and a signal that comes while the handler of another
    holds it would wait for that for ever.
    """

    def __init__(self) -> None:
        self._asked = False
        self.asked_s = 0.0  # when the first one came, on the steady clock
        for number in end_signals():
            signal.signal(number, self._ask)

    def is_set(self) -> bool:
        """Whether one of them has come."""
        return self._asked

    def set(self) -> None:
        """As if one had come."""
        self.asked_s = self.asked_s or time.monotonic()
        self._asked = True

    def _ask(self, *_: object) -> None:
        self.set()
