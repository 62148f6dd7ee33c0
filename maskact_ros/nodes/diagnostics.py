"""What a node says of itself on /diagnostics, once a second: rates, percentiles, counts, and what is wrong.

In: events and durations, from any thread. Out: one diagnostic_msgs/DiagnosticStatus a second, on the steady clock.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

RATE_WINDOW_S = 5.0
QUIET_S = 1.0  # a problem that comes back within this was not over
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


@dataclass
class _Problem:
    level: bytes
    text: str
    at_s: float  # when it was last seen, on the steady clock
    over: bool = False


class Diagnostics:
    """Collects and publishes; `problem` tells what is wrong now, and logs it once per change (of more than numbers).

    Percentiles are of the last 4096 samples, rates of the last five seconds, totals and counts since the start.
    """

    OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

    def __init__(self, node: Node, *, period_s: float = 1.0):
        self._node = node
        self._lock = threading.Lock()
        self._events: dict[str, deque[float]] = {}
        self._durations_ms: dict[str, deque[float]] = {}
        self._counts: Counter[str] = Counter()
        self._values: dict[str, str] = {}
        self._problems: dict[str, _Problem] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period_s, self.publish, clock=steady)

    def event(self, name: str) -> None:
        """Something happened that has a rate."""
        now_s = time.monotonic()
        with self._lock:
            events = self._events.setdefault(name, deque())
            events.append(now_s)
            self._counts[f"{name}_total"] += 1
            while events[0] < now_s - RATE_WINDOW_S:
                events.popleft()

    def duration(self, name: str, milliseconds: float) -> None:
        """A stage took so long."""
        with self._lock:
            self._durations_ms.setdefault(name, deque(maxlen=4096)).append(milliseconds)
            self._counts[f"{name}_total"] += 1

    def count(self, name: str, more: int = 1) -> None:
        """Something that should be rare happened again."""
        with self._lock:
            self._counts[name] += more

    def value(self, name: str, value: object) -> None:
        """Something is so now."""
        with self._lock:
            self._values[name] = str(value)

    def problem(self, topic: str, text: str, level: bytes = DiagnosticStatus.ERROR) -> None:
        """Something is wrong with `topic`, until `solved` is called for it."""
        with self._lock:
            known = self._problems[topic].text if topic in self._problems else ""
            self._problems[topic] = _Problem(level, text, time.monotonic())
        if _NUMBER.sub("", text) != _NUMBER.sub("", known):
            log = self._node.get_logger()
            if level == self.ERROR:  # on lines of their own: rclpy raises when one line logs at two severities
                log.error(text)
            else:
                log.warning(text)

    def solved(self, topic: str) -> None:
        """Nothing is wrong with `topic` any more: believed, and said in the log, when it stays so for a second."""
        if topic in self._problems:  # without the lock, as this is asked for every message
            with self._lock:
                if topic in self._problems:
                    self._problems[topic].over = True

    def forget(self, topic: str) -> None:
        """As `solved`, but at once, and without a word in the log."""
        with self._lock:
            self._problems.pop(topic, None)

    def publish(self) -> None:
        """Publish the status as it is now."""
        self._settle()
        status = DiagnosticStatus(name=self._node.get_fully_qualified_name(), hardware_id="maskact")
        with self._lock:
            status.level = max((problem.level for problem in self._problems.values()), default=self.OK)
            status.message = "; ".join(problem.text for problem in self._problems.values()) or "ok"
            values = self._collected()
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _settle(self) -> None:
        """Take out the problems that are over and did not come back."""
        now_s = time.monotonic()
        with self._lock:
            settled = [t for t, problem in self._problems.items() if problem.over and problem.at_s < now_s - QUIET_S]
            texts = [self._problems.pop(topic).text for topic in settled]
        for text in texts:
            self._node.get_logger().info(f"solved: {text}")

    def _collected(self) -> dict[str, str]:
        now_s = time.monotonic()
        values = dict(self._values)
        for name, events in self._events.items():
            recent = [at for at in events if at >= now_s - RATE_WINDOW_S]
            span_s = recent[-1] - recent[0] if len(recent) > 1 else 0.0
            values[f"{name}_hz"] = f"{(len(recent) - 1) / span_s:.2f}" if span_s > 0 else "0.00"
        for name, samples in self._durations_ms.items():
            p50, p95, p99 = np.percentile(np.array(samples), (50, 95, 99))
            values |= {f"{name}_ms_p50": f"{p50:.2f}", f"{name}_ms_p95": f"{p95:.2f}", f"{name}_ms_p99": f"{p99:.2f}"}
        return values | {name: str(count) for name, count in self._counts.items()}
