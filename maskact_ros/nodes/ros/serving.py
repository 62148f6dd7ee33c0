"""The executor of our nodes: no message of a peer can end the node, or take the time of its other threads.

In: a node's entities. Out: their callbacks, one at a time. A message or request that rclpy cannot deserialise is
refused in one sentence. With `sparing`, callbacks take at most a share of the time, apart from short bursts. Long
callbacks get a smaller share, as the interpreter may be blocked meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor

from maskact_ros.nodes.ros.diagnostics import Diagnostics

LONG_S = 2e-3
_LONGEST_REST_S = 0.5


class Allowance:
    """A share of one thread's time, and a burst that is allowed at once."""

    def __init__(self, share: float, burst_s: float):
        self._share, self._burst_s = share, burst_s
        self._left_s, self._at_s = burst_s, -float("inf")

    def rest_after(self, took_s: float, now_s: float) -> float:
        """How long to rest after `took_s` of work, in s."""
        self._left_s = min(self._burst_s, self._left_s + self._share * (now_s - self._at_s)) - took_s
        self._left_s = max(self._left_s, -self._share * _LONGEST_REST_S)
        self._at_s = now_s
        return max(0.0, -self._left_s / self._share)


class Serving(SingleThreadedExecutor):  # type: ignore[misc]
    """Serves one node; with `sparing` it leaves time to the node's other threads."""

    def __init__(self, diagnostics: Diagnostics, *, sparing: bool):
        super().__init__()
        self._diagnostics = diagnostics
        self._sparing = sparing
        self._all, self._long = Allowance(0.3, 0.3), Allowance(0.025, 0.1)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As rclpy's, and then rest if there was much work."""
        began_s = time.thread_time()
        super().spin_once(timeout_sec)
        if not self._sparing:
            return
        took_s, now_s = time.thread_time() - began_s, time.monotonic()
        rest_s = self._all.rest_after(took_s, now_s)
        if took_s > LONG_S:
            rest_s = max(rest_s, self._long.rest_after(took_s, now_s))
        if rest_s:
            time.sleep(rest_s)

    # rclpy calls the returned functions later. An exception in one of them is a bug of ours.
    def _take_subscription(self, sub: Any) -> Any:
        return self._taken(super()._take_subscription, sub, lambda: sub.topic_name)

    def _take_service(self, srv: Any) -> Any:
        return self._taken(super()._take_service, srv, lambda: srv.srv_name)

    def _take_client(self, client: Any) -> Any:
        return self._taken(super()._take_client, client, lambda: client.srv_name)

    def _taken(self, take: Callable[[Any], Any], entity: Any, name: Callable[[], str]) -> Any:
        try:
            return take(entity)
        except Exception as error:  # noqa: BLE001 - rclpy's exceptions have no public names
            shown = name()
            self._diagnostics.problem(f"take {shown}", f"what came on {shown} is refused: it cannot be read ({error})")
            self._diagnostics.solved(f"take {shown}")  # in effect only if no further one comes
            return None
