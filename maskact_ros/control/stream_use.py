"""`StreamUse`: is a stream of messages used, or are most of its last seconds dropped, and for what reason?

In: for each message that came, why it was dropped, or that it was not. Out: the reason why most of them are dropped,
once that has lasted for a second. What is dropped now and then, as any stream has it, is no reason.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

WINDOW_S = 2.0  # what is looked at
LASTING_S = 1.0  # of that, at least
_FEWEST = 2  # messages, of a stream so slow that fewer come within the window
_MOST = 10_000  # that are remembered, of the fastest stream


class StreamUse:
    """For any thread. `repeats` are reasons that say that a message was no new one: they count where no other came."""

    def __init__(self, repeats: Collection[str] = (), *, now_s: Callable[[], float] = time.monotonic):
        self._repeats, self._now_s = frozenset(repeats), now_s
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, str | None]] = deque(maxlen=_MOST)  # when, and why it was dropped
        self._counts: Counter[str | None] = Counter()  # of these, by reason

    def note(self, reason: str | None) -> str | None:
        """One more was dropped for this reason, or used (None); returns why most of the last ones are dropped."""
        now_s = self._now_s()
        with self._lock:
            if len(self._seen) == _MOST:
                self._forget()
            self._seen.append((now_s, reason))
            self._counts[reason] += 1
            while len(self._seen) > _FEWEST and self._seen[0][0] < now_s - WINDOW_S:
                self._forget()
            return self._verdict(now_s)

    def reset(self) -> None:
        """Begin anew, with a stream of which nothing is known."""
        with self._lock:
            self._seen.clear()
            self._counts.clear()

    def _forget(self) -> None:
        _, reason = self._seen.popleft()
        self._counts[reason] -= 1

    def _verdict(self, now_s: float) -> str | None:
        if len(self._seen) < _FEWEST or self._seen[0][0] > now_s - LASTING_S:
            return None
        counts = {reason: count for reason, count in self._counts.items() if reason not in self._repeats and count}
        counts = counts or {reason: count for reason, count in self._counts.items() if count}
        total, used = sum(counts.values()), counts.pop(None, 0)
        if 2 * used >= total:
            return None
        return max(counts, key=counts.__getitem__)
