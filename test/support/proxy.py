"""A proxy between two nodes: relays a topic to `faulty/<topic>`, and does to it on the way what its fault says.

A fault is a function of one message that gives what is to be delivered instead, and how much later: nothing, the same,
the same twice, something else. Consumers are started with `faulty(topics)` as their remappings.
"""

import copy
import heapq
import itertools
import threading
import time
from collections.abc import Callable

import numpy as np
from rclpy.qos import QoSProfile

from maskact_ros.nodes.ros.messages import ns_to_stamp, stamp_to_ns
from support.node_bench import RELIABLE, Probe

Delivery = tuple[float, object]  # seconds from now, message
Fault = Callable[[object], list[Delivery]]


def faulty(*topics: str) -> dict[str, str]:
    """The remappings of a node that is to hear these topics through the proxy."""
    return {topic: f"faulty/{topic}" for topic in topics}


class Stream:
    """One relayed topic; `fault` may be replaced at any time."""

    def __init__(self, probe: Probe, kind: type, topic: str, qos: QoSProfile = RELIABLE):
        self.fault: Fault = passed
        self.relayed = 0  # messages that came in
        self._out = probe.publisher(kind, f"faulty/{topic}", qos)
        self._courier = Courier()
        probe.node.create_subscription(kind, topic, self._relay, qos)

    def _relay(self, message: object) -> None:
        self.relayed += 1
        for delay_s, delivered in self.fault(message):
            if delay_s > 0.0:
                self._courier.take(delay_s, lambda delivered=delivered: self._out.publish(delivered))
            else:
                self._out.publish(delivered)

    def heal(self) -> None:
        """Relay without a fault; delayed messages are lost."""
        self.fault = passed
        self._courier.lose_all()

    def close(self) -> None:
        self._courier.close()


class Courier:
    """Calls functions later, in the order in which they are due, in a thread of its own."""

    def __init__(self):
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def take(self, delay_s: float, deliver: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._number), deliver))
            self._changed.notify()

    def lose_all(self) -> None:
        with self._changed:
            self._due.clear()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now_s = time.monotonic()
                while self._due and self._due[0][0] <= now_s:
                    heapq.heappop(self._due)[2]()
                self._changed.wait(self._due[0][0] - now_s if self._due else None)


def passed(message: object) -> list[Delivery]:
    return [(0.0, message)]


def dropped(_: object) -> list[Delivery]:
    return []


def duplicated(message: object) -> list[Delivery]:
    return [(0.0, message), (0.0, message)]


def delayed(seconds: float) -> Fault:
    return lambda message: [(seconds, message)]


def lossy(share: float, random: np.random.Generator) -> Fault:
    """Loses a share of the messages."""
    return lambda message: [] if random.random() < share else passed(message)


def reordered(at_most_s: float, random: np.random.Generator) -> Fault:
    """Delays each message by a different time, so that messages overtake each other."""
    return lambda message: [(random.uniform(0.0, at_most_s), message)]


def altered(change: Callable[[object], object]) -> Fault:
    """Lets a function change each message, in place."""

    def alter(message: object) -> list[Delivery]:
        change(message)
        return passed(message)

    return alter


def restamped(offset_s: float) -> Fault:
    """Shifts each message's stamp."""

    def shift(message: object) -> None:
        message.header.stamp = ns_to_stamp(stamp_to_ns(message.header.stamp) + round(offset_s * 1e9))

    return altered(shift)


def frozen() -> Fault:
    """Repeats what the first message says, under the stamps of those that come."""
    first: list[object] = []

    def repeat(message: object) -> list[Delivery]:
        if not first:
            first.append(copy.copy(message))
        first[0].header = message.header
        return passed(first[0])

    return repeat
