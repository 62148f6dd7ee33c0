"""`maskact record`: records topics of the live graph into a bag, as serialised bytes.

In: topics, and the bag's folder. Out: a rosbag2 folder with receive times and the offered QoS. It is closed properly
on Ctrl-C, on SIGTERM and after a given time. After a kill it can be read up to the last second.
"""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rich.console import Console
from rich.live import Live
from rich.text import Text

from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.bags.bag_writer import BagWriter, Storage, offered
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.recorded_message import BagError
from maskact_ros.nodes.ros.stop_request import StopRequest
from maskact_ros.tools.bringup import environment

QUEUE = 200  # messages of a topic that wait while the disk is slow
DRAIN_S = 2.0  # longest time at the end to write waiting messages
LOOK_EVERY_S = 0.2  # between two searches for publishers
SAY_EVERY_S = 1.0
SAY_EVERY_S_WITHOUT_TERMINAL = 10.0


@dataclass(frozen=True, kw_only=True)
class RecordRequest:
    """What to record, and where to write it."""

    streams: tuple[tuple[str, ...], ...]  # absolute topics; of several in one stream, the first with a publisher
    out: Path
    storage: Storage = "mcap"
    seconds: float | None = None  # from the first message on

    @classmethod
    def of(
        cls, contract: Contract, out: Path, *, storage: Storage = "mcap", seconds: float | None = None
    ) -> RecordRequest:
        """All topics of a contract."""
        others = [contract.mask_topic, contract.state_topic]
        others += [contract.action_topic] if contract.action_source == "command" else []
        streams = (contract.image_topics, *((topic,) for topic in others if topic is not None))
        return cls(streams=streams, out=out, storage=storage, seconds=seconds)


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded."""

    counts: dict[str, int]  # messages by topic
    bytes: int
    lost: int  # messages that came too fast for this machine
    seconds: float
    silent: tuple[str, ...]  # topics of which no message came

    @property
    def text(self) -> str:
        """The lines for the user."""
        lines = [f"{sum(self.counts.values())} messages, {self.bytes / 1e6:.1f} MB in {self.seconds:.1f} s"]
        lines += [
            f"  {topic}: {count}, {count / max(self.seconds, 1e-9):.1f} Hz" for topic, count in self.counts.items()
        ]
        if self.lost:
            lines.append(
                f"{self.lost} messages were lost: the publisher most likely lacks the shared-memory profile "
                "config/fastdds.xml, which pictures need (docs/own_robot.md); else this machine or its disk is too slow"
            )
        return "\n".join(lines)


def record(request: RecordRequest) -> RecordSummary:
    """Record until a signal or the end of `seconds`.

    Raises:
        MaskACTError: `out` exists, writing fails, no message came, or a topic's publishers have different types.
    """
    os.environ.update(environment())
    stop = StopRequest()
    with BagWriter(request.out, storage=request.storage) as bag:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        try:
            recorder = Recorder(request, bag)
            recorder.run(stop)
        finally:
            rclpy.try_shutdown()
        summary = recorder.summary()
        if not summary.bytes:  # raised in the block, so that no empty bag is left
            raise BagError(
                f"nothing came on {', '.join(summary.silent)}, so there is no bag; is the robot running, in this "
                "ROS_DOMAIN_ID?"
            )
    return summary


class Recorder:
    """A node that subscribes the topics when they appear, with their publishers' QoS, and writes all messages."""

    def __init__(self, request: RecordRequest, bag: BagWriter) -> None:
        self._request, self._bag = request, bag
        self._node = Node("maskact_record", start_parameter_services=False)
        self._waiting = list(request.streams)
        self._lost = 0
        self._began_s: float | None = None  # when the first message came, on the steady clock
        self._failure: MaskACTError | None = None

    def run(self, stop: StopRequest) -> None:
        """Record until `stop` is set or the time is over; raises MaskACTError."""
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)
        look_s = say_s = 0.0
        with _progress() as say:
            while not stop.is_set() and not self._is_over():
                executor.spin_once(timeout_sec=0.05)
                if self._failure is not None:
                    raise self._failure
                now_s = time.monotonic()
                if self._waiting and now_s >= look_s:
                    self._waiting = [stream for stream in self._waiting if not self._subscribe(stream)]
                    look_s = now_s + LOOK_EVERY_S
                if now_s >= say_s:
                    say(self.summary())
                    say_s = now_s + SAY_EVERY_S
        self._drain(executor)
        executor.shutdown()
        self._node.destroy_node()

    def summary(self) -> RecordSummary:
        """The figures so far."""
        seconds = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        quiet = [topic for topic, count in self._bag.counts.items() if not count]
        unpublished = [" or ".join(stream) for stream in self._waiting]
        return RecordSummary(dict(self._bag.counts), self._bag.bytes, self._lost, seconds, (*quiet, *unpublished))

    def _drain(self, executor: SingleThreadedExecutor) -> None:
        """Write the messages that have arrived and wait."""
        until_s, idle = time.monotonic() + DRAIN_S, 0
        while idle < 20 and time.monotonic() < until_s:
            known = self._bag.bytes
            executor.spin_once(timeout_sec=0)
            idle = idle + 1 if self._bag.bytes == known else 0
        if self._failure is not None:
            raise self._failure

    def _is_over(self) -> bool:
        limit_s, began_s = self._request.seconds, self._began_s
        return limit_s is not None and began_s is not None and time.monotonic() - began_s >= limit_s

    def _subscribe(self, stream: tuple[str, ...]) -> bool:
        """Subscribe the first topic of a stream that has publishers; return whether there is one."""
        for topic in stream:
            publishers = self._node.get_publishers_info_by_topic(topic)
            if publishers:
                self._subscribe_topic(topic, publishers)
                return True
        return False

    def _subscribe_topic(self, topic: str, publishers: list[TopicEndpointInfo]) -> None:
        kinds = sorted({publisher.topic_type for publisher in publishers})
        if len(kinds) > 1:
            raise BagError(f"{topic} is published with the types {' and '.join(kinds)}; allowed: one")
        profiles = [publisher.qos_profile for publisher in publishers]
        self._bag.add_topic(topic, kinds[0], [_for_bag(profile) for profile in profiles])
        subscribe = functools.partial(
            self._node.create_subscription,
            _message_class(topic, kinds[0]),
            topic,
            lambda message, info: self._write(topic, message, info),
            _that_hears_all(profiles),
            raw=True,
        )
        try:
            subscribe(event_callbacks=SubscriptionEventCallbacks(message_lost=self._count_lost))
        except UnsupportedEventTypeError:
            self._node.get_logger().warning(f"{topic}: this RMW does not tell how many messages are lost")
            subscribe()

    def _write(self, topic: str, message: bytes, info: dict[str, Any]) -> None:
        if self._began_s is None:
            self._began_s = time.monotonic()
        try:
            self._bag.write(topic, info["received_timestamp"] or time.time_ns(), message)
        except MaskACTError as error:  # kept for `run`, as the executor would wrap it
            self._failure = error

    def _count_lost(self, event: Any) -> None:
        self._lost += event.total_count_change


def _that_hears_all(profiles: list[QoSProfile]) -> QoSProfile:
    """The strongest QoS that is compatible with all of these publishers."""
    reliable = all(profile.reliability == QoSReliabilityPolicy.RELIABLE for profile in profiles)
    latched = all(profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
    return QoSProfile(
        depth=QUEUE,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


def _for_bag(profile: QoSProfile) -> Any:
    return offered(
        reliable=profile.reliability == QoSReliabilityPolicy.RELIABLE,
        latched=profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL,
        depth=profile.depth,
    )


def _message_class(topic: str, kind: str) -> Any:
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise BagError(f"{topic} is of the type {kind}, which is not installed here") from None


@contextmanager
def _progress() -> Iterator[Any]:
    """A function to call each second with a summary: it updates a line on a terminal, or prints a line every 10 s."""
    console = Console(stderr=True)
    before = RecordSummary({}, 0, 0, 0.0, ())
    said_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else _nothing() as live:

        def say(now: RecordSummary) -> None:
            nonlocal before, said_s
            line, before = _line(before, now), now
            if live is not None:
                live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
            elif time.monotonic() - said_s > SAY_EVERY_S_WITHOUT_TERMINAL:
                said_s = time.monotonic()
                print(line, flush=True)

        yield say


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def _line(before: RecordSummary, now: RecordSummary) -> str:
    lasted_s = max(now.seconds - before.seconds, 1e-9)
    rates = ", ".join(
        f"{topic} {(count - before.counts.get(topic, 0)) / lasted_s:.0f} Hz"
        for topic, count in now.counts.items()
        if count
    )
    parts = [f"{now.seconds:.0f} s, {sum(now.counts.values())} messages, {now.bytes / 1e6:.0f} MB", rates]
    parts += [f"silent: {', '.join(now.silent)}"] if now.silent else []
    parts += [f"lost: {now.lost}"] if now.lost else []
    return " | ".join(filter(None, parts))
