"""Hands the newest item from the executor's thread to a worker thread; older waiting items are dropped.

In: items, and a function. Out: calls of the function, one at a time, always with the newest item.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
_GIVE_WAY_S = 1e-3  # about the time until the worker computes without the interpreter's lock


class NewestWorker(Generic[Item]):
    """A thread that works on the newest item; an exception ends it and is kept in `crash`."""

    def __init__(self, work: Callable[[Item], None], *, name: str, finish: Callable[[], None] = lambda: None):
        self._work = work
        self._finish = finish  # called at the end, in the worker thread
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._stopped = False
        self.crash: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Give the newest item; return whether an older waiting item was dropped for it."""
        with self._changed:
            dropped = self._item is not None
            self._item = item
            self._changed.notify()
        return dropped

    def hand_over(self, item: Item) -> bool:
        """As `put`, but sleep briefly, so that the worker begins: else the caller would keep the interpreter's lock."""
        dropped = self.put(item)
        time.sleep(_GIVE_WAY_S)
        return dropped

    def stop(self) -> None:
        """Finish the present item, drop a waiting one, end the thread, and wait for its end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._work(item)
        except Exception as crash:  # noqa: BLE001 - kept for the node, which ends with it
            self.crash = crash
        finally:
            self._finish()

    def _next(self) -> Item | None:
        """Wait for an item and take it; None when stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._item is not None)
            item, self._item = self._item, None
            return None if self._stopped else item
