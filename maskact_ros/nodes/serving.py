"""The executor of a node of ours: whatever comes from a peer, the node lives, and its other threads get their time.

In: a node's entities. Out: their callbacks, one at a time. A message or request that rclpy cannot make an object of is
refused in one sentence. Callbacks together take at most a share of the thread's time, in which a burst is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor

from maskact_ros.nodes.diagnostics import Diagnostics

_BURST_S = 0.2  # of work, that comes without a rest
_LONGEST_REST_S = 0.5


class Serving(SingleThreadedExecutor):  # type: ignore[misc]
    """Serves one node."""

    def __init__(self, diagnostics: Diagnostics, share: float):
        super().__init__()
        self._diagnostics = diagnostics
        self._share = share
        self._left_s, self._asked_s = _BURST_S, time.monotonic()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As rclpy's, and then rest, if there has been much to do."""
        began_s = time.thread_time()
        super().spin_once(timeout_sec)
        now_s, took_s = time.monotonic(), time.thread_time() - began_s
        self._left_s = min(_BURST_S, self._left_s + self._share * (now_s - self._asked_s)) - took_s
        self._asked_s = now_s
        if self._left_s < 0.0 and self._share < 1.0:
            self._left_s = max(self._left_s, -self._share * _LONGEST_REST_S)
            time.sleep(-self._left_s / self._share)

    # What these return is called later, and an exception in that is a bug of ours.
    def _take_subscription(self, sub: Any) -> Any:
        return self._taken(super()._take_subscription, sub, lambda: sub.topic_name)

    def _take_service(self, srv: Any) -> Any:
        return self._taken(super()._take_service, srv, lambda: srv.srv_name)

    def _take_client(self, client: Any) -> Any:
        return self._taken(super()._take_client, client, lambda: client.srv_name)

    def _taken(self, take: Callable[[Any], Any], entity: Any, name: Callable[[], str]) -> Any:
        try:
            return take(entity)
        except Exception as error:  # noqa: BLE001 - rclpy's own have no public names
            shown = name()
            self._diagnostics.problem(f"take {shown}", f"what came on {shown} is refused: it cannot be read ({error})")
            self._diagnostics.solved(f"take {shown}")  # if it stays the only one
            return None
