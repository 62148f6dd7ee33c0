"""A node's /diagnostics, once a second: rates, percentiles, counts, and problems.

In: events and durations, from any thread. Out: one diagnostic_msgs/DiagnosticStatus a second; all text is printable.
The command loop records here, so recording never waits: it appends to a queue, and `publish` computes.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from maskact_ros.core.errors import printable

RATE_WINDOW_S = 5.0
STAGE_WINDOW_S = 10.0
QUIET_S = 1.0  # a problem that comes back within this was not over
LINE_S = 1.0  # least time between two lines in the log about one topic
_QUEUED = 100_000  # most records between two reports: 100 s at 1000 Hz
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?(e[-+]?\d+)?|\b(nan|inf(inity)?)\b)", re.IGNORECASE)


@dataclass(frozen=True)
class _Problem:
    level: bytes
    text: str
    at_s: float  # when it was last seen, on the steady clock
    over: bool = False


class _Window:
    """Numbers of the last seconds. Any thread appends to `queue`; one thread moves them into blocks and reads them."""

    def __init__(self) -> None:
        self.queue: deque[float] = deque(maxlen=_QUEUED)
        self._blocks: deque[tuple[float, NDArray[np.float64]]] = deque()  # time of the move; the numbers (N,)

    def move(self, now_s: float, window_s: float) -> int:
        """Move queued numbers into a block, drop old blocks, and return how many were new."""
        new = np.array([self.queue.popleft() for _ in range(len(self.queue))], dtype=np.float64)
        self._blocks.append((now_s, new))
        while self._blocks[0][0] < now_s - window_s:
            self._blocks.popleft()
        return len(new)

    def numbers(self) -> NDArray[np.float64]:
        """All numbers of the window (N,)."""
        return np.concatenate([block for _, block in self._blocks])


class Diagnostics:
    """Collects and publishes. A problem is logged once, and again when more than numbers in its text change.

    Percentiles are of the last ten seconds, rates of the last five, totals and counts since the start. Only the
    executor's thread may call `publish`; any thread may call the other methods.
    """

    OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

    def __init__(self, node: Node, *, period_s: float = 1.0):
        self._node = node
        # Single operations on these are atomic in Python, so they need no lock.
        self._events: dict[str, _Window] = {}
        self._durations_ms: dict[str, _Window] = {}
        self._more: deque[tuple[str, int]] = deque(maxlen=_QUEUED)
        self._values: dict[str, str] = {}
        self._counts: Counter[str] = Counter()  # used by `publish` only
        self._lock = threading.Lock()  # for the next two; rarely taken while there is no problem
        self._problems: dict[str, _Problem] = {}
        self._said: dict[str, tuple[float, str]] = {}  # topic -> time and text of its last line in the log
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self.publish, clock=steady)

    def event(self, name: str) -> None:
        """Record an event, for its rate."""
        window = self._events.get(name) or self._events.setdefault(name, _Window())
        window.queue.append(time.monotonic())

    def duration(self, name: str, milliseconds: float) -> None:
        """Record the duration of a stage."""
        window = self._durations_ms.get(name) or self._durations_ms.setdefault(name, _Window())
        window.queue.append(milliseconds)

    def count(self, name: str, more: int = 1) -> None:
        """Count something that should be rare."""
        self._more.append((name, more))

    def value(self, name: str, value: object) -> None:
        """Set a value to show."""
        self._values[name] = printable(value)

    def problem(self, topic: str, text: str, level: bytes = DiagnosticStatus.ERROR) -> None:
        """Report a problem of `topic`, until `solved` is called for it."""
        problem = _Problem(level, printable(text), time.monotonic())
        with self._lock:
            self._problems[topic] = problem
            news = self._is_news(topic, problem)
        if news:
            self._log(problem)

    def solved(self, topic: str) -> None:
        """The problem of `topic` is over. It is removed, and the log says so, if it does not return within a second."""
        if topic in self._problems:  # without the lock, as this runs for every message
            with self._lock:
                if topic in self._problems:
                    self._problems[topic] = replace(self._problems[topic], over=True)

    def forget(self, topic: str) -> None:
        """As `solved`, but at once, and without a line in the log."""
        with self._lock:
            self._problems.pop(topic, None)
            self._said.pop(topic, None)

    def publish(self) -> None:
        """Publish the present status."""
        self._settle()
        with self._lock:
            problems = list(self._problems.values())
        status = DiagnosticStatus(name=self._node.get_fully_qualified_name(), hardware_id="maskact")
        status.level = max((problem.level for problem in problems), default=self.OK)
        status.message = "; ".join(problem.text for problem in problems) or "ok"
        status.values = [KeyValue(key=printable(k), value=v) for k, v in self._collected().items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _is_news(self, topic: str, problem: _Problem) -> bool:
        """Whether to log now. If the topic had a line within the last second, a later call or `_settle` logs it."""
        text, now_s = _NUMBER.sub("", problem.text), time.monotonic()
        at_s, said = self._said.get(topic, (-np.inf, ""))
        if text == said or now_s < at_s + LINE_S:
            return False
        self._said[topic] = now_s, text
        return True

    def _log(self, problem: _Problem) -> None:
        log = self._node.get_logger()
        if problem.level == self.ERROR:  # two calls, as rclpy raises when one source line logs at two severities
            log.error(problem.text)
        else:
            log.warning(problem.text)

    def _settle(self) -> None:
        """Remove problems that are over and did not return, and log those that had to wait for their line."""
        now_s = time.monotonic()
        with self._lock:
            settled = [t for t, problem in self._problems.items() if problem.over and problem.at_s < now_s - QUIET_S]
            texts = [self._problems.pop(topic).text for topic in settled]
            self._said |= dict.fromkeys(settled, (now_s, ""))
            waiting = [problem for topic, problem in self._problems.items() if self._is_news(topic, problem)]
        for text in texts:
            self._node.get_logger().info(f"solved: {text}")
        for problem in waiting:
            self._log(problem)

    def _collected(self) -> dict[str, str]:
        now_s = time.monotonic()
        values = dict(self._values)
        for name, window in list(self._events.items()):
            self._counts[f"{name}_total"] += window.move(now_s, RATE_WINDOW_S)
            at_s = window.numbers()
            at_s = at_s[at_s >= now_s - RATE_WINDOW_S]
            span_s = at_s[-1] - at_s[0] if len(at_s) > 1 else 0.0
            values[f"{name}_hz"] = f"{(len(at_s) - 1) / span_s:.2f}" if span_s > 0 else "0.00"
        for name, window in list(self._durations_ms.items()):
            self._counts[f"{name}_total"] += window.move(now_s, STAGE_WINDOW_S)
            samples = window.numbers()
            samples = samples[np.isfinite(samples)]
            if len(samples):
                for p, at_p in zip((50, 95, 99), np.percentile(samples, (50, 95, 99)), strict=True):
                    values[f"{name}_ms_p{p}"] = f"{at_p:.2f}"
        for _ in range(len(self._more)):
            name, more = self._more.popleft()
            self._counts[name] += more
        return values | {name: str(count) for name, count in self._counts.items()}
