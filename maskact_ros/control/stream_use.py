"""`StreamUse`: finds out whether most messages of a stream are dropped, and for which reason.

In: for each message the reason why it was dropped, or None if it was used. Out: the reason why most messages are
dropped, when that has lasted for a second. A few dropped messages are normal, and give no reason.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

WINDOW_S = 2.0  # messages of this time are counted
LASTING_S = 1.0  # least time that the counted messages must span
_FEWEST = 2  # messages that are kept of a slow stream, even if they are older than the window
_MOST = 10_000  # messages that are kept of a fast stream


class StreamUse:
    """For any thread. `repeats` are reasons of messages that were not new; they count only if no new message came."""

    def __init__(self, repeats: Collection[str] = (), *, now_s: Callable[[], float] = time.monotonic):
        self._repeats, self._now_s = frozenset(repeats), now_s
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, str | None]] = deque(maxlen=_MOST)  # time, and why it was dropped
        self._counts: Counter[str | None] = Counter()  # number of these messages by reason

    def note(self, reason: str | None) -> str | None:
        """Note a message that was dropped for this reason, or used (None); return why most are dropped, or None."""
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
        """Forget all messages."""
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
