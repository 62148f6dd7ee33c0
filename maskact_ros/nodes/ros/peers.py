"""Watches whether our other nodes are alive. Each node publishes signs of life on a topic, and hears the others'.

In: names of nodes. Out: which nodes were lost, and which are back. With liveliness events a process that is killed or
stopped is lost within 0.1 s (within some seconds while it starts); without these events within 0.8 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.duration import Duration
from rclpy.event_handler import (
    QoSLivelinessChangedInfo,
    QoSSubscriptionMatchedInfo,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.qos import QoSLivelinessPolicy, QoSProfile
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Empty

from maskact_ros.control.realtime import RateLoop
from maskact_ros.nodes.ros.managed import ManagedNode

LEASE_NS = 100_000_000  # a node counts as lost this long after the last sign of life of its process
BEAT_S = 0.5  # between two messages of a node, with liveliness events
# A node that is discovered but silent for this many beats is lost. We count timer callbacks, not seconds: after a delay
# of ours, queued messages are handled before the next callback.
SILENT_BEATS = 4
TURN_S = 0.1  # between two messages, and between two checks for silence, without liveliness events
SILENT_TURNS = 5  # turns without a message until a node is lost; or three times its usual number, if that is more
_UNHEARD_TURNS = round(SILENT_BEATS * BEAT_S / TURN_S)
_RAREST_TURNS = round(BEAT_S / TURN_S) + 1  # between two messages of a peer that has events itself
LASTING_S = 0.5  # a shorter silence is a warning only: on a busy machine processes have to wait
# RMWs with liveliness events. Others may accept the event callbacks, but never call them.
_WITH_LIVELINESS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp", "rmw_cyclonedds_cpp", "rmw_connextdds")
_PLAIN = QoSProfile(depth=1)
ALIVE = QoSProfile(
    depth=1, liveliness=QoSLivelinessPolicy.AUTOMATIC, liveliness_lease_duration=Duration(nanoseconds=LEASE_NS)
)


@dataclass
class _Loss:
    silent_s: float  # how long the node was silent when the loss was noticed
    turns: int = 0  # turns since then
    said_to_last: bool | None = None  # whether it was reported as lasting; None before any report


class Peers:
    """Publishes `<name>/alive` (`name` is the node's own name unless given), and hears those of `others`.

    Lost and found nodes are reported in the log and on /diagnostics, where the value `peer_<name>` shows the state.
    `lost` and `found` are called with the name, in the executor's thread.

    Fast DDS reports a silent process at once, but a live one not reliably. It can miss a first sign of life, and its
    counts are wrong from then on. They are wrong, too, after it has forgotten a killed process (20 s). So we use the
    changes in its events, not the sums, and messages as further signs of life. Without liveliness events there are
    messages only. They are sent more often, from a thread of their own, and so show that the process lives, as DDS
    liveliness does. In that case a node that has shut down cannot be told from one that died.
    """

    def __init__(
        self,
        node: ManagedNode,
        others: Sequence[str] = (),
        *,
        lost: Callable[[str], None] = lambda _: None,
        found: Callable[[str], None] = lambda _: None,
        name: str = "",
    ):
        self._node, self._lost, self._found = node, lost, found
        self._missing: dict[str, _Loss] = {}
        self._offers = dict.fromkeys(others, 0)  # publishers that DDS knows of, alive or not
        self._heard: set[str] = set()  # present nodes that have given a sign of life
        self._silent_beats = dict.fromkeys(others, 0)  # beats of present nodes that have not given one yet
        self._silent_turns = dict.fromkeys(others, 0)  # turns since each node's last message
        self._usual_turns = dict.fromkeys(others, _RAREST_TURNS)  # usual turns from one message to the next
        for other in others:
            node.diagnostics.value(f"peer_{other}", "not met")
        rmw = get_rmw_implementation_identifier()
        self._qos = ALIVE if rmw in _WITH_LIVELINESS else _PLAIN
        self._publisher = node.create_publisher(Empty, f"{name or node.get_name()}/alive", self._qos)
        self._subscriptions = self._hear_events(others) if self._qos is ALIVE else None
        self._timer = node.create_steady_timer(BEAT_S, self._beat)
        self._turns = node.create_steady_timer(TURN_S, self._turn)
        self._thread: RateLoop | None = None
        if self._subscriptions is not None:
            self._turns.cancel()  # until a node is lost
            node.diagnostics.value("liveliness", f"by events of {rmw}")
            return
        self._subscriptions = [self._hear(other, None) for other in others]
        self._timer.cancel()
        self._thread = RateLoop(1 / TURN_S, lambda _: self._publisher.publish(Empty()), name="alive")
        self._thread.start()
        node.diagnostics.value("liveliness", f"by messages: {rmw} has no liveliness events")
        node.get_logger().info(
            f"liveliness by messages, as {rmw} has no liveliness events: a peer counts as lost after "
            f"{SILENT_TURNS * TURN_S:g} s without one, instead of {LEASE_NS / 1e9:g} s"
        )

    @property
    def missing(self) -> list[str]:
        """The nodes that were lost and are not back."""
        return sorted(self._missing)

    def destroy(self) -> None:
        """Stop publishing and hearing signs of life."""
        if self._thread is not None:
            self._thread.stop()
        for subscription in self._subscriptions or ():
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_timer(self._timer)
        self._node.destroy_timer(self._turns)

    def _hear_events(self, names: Sequence[str]) -> list[Subscription[Empty]] | None:
        """The subscriptions with liveliness events; None if the RMW does not support these."""
        try:
            return [self._hear(name, self._events(name)) for name in names]
        except UnsupportedEventTypeError:
            return None

    def _hear(self, name: str, events: SubscriptionEventCallbacks | None) -> Subscription[Empty]:
        def heard(_: Empty) -> None:
            usual = max(self._silent_turns[name], self._usual_turns[name] - 1)
            self._usual_turns[name] = min(usual, _RAREST_TURNS)
            self._live(name)

        return self._node.create_subscription(Empty, f"{name}/alive", heard, self._qos, event_callbacks=events)

    def _events(self, name: str) -> SubscriptionEventCallbacks:
        def liveliness(info: QoSLivelinessChangedInfo) -> None:
            if info.not_alive_count_change > 0:
                self._lose(name, LEASE_NS / 1e9)
            elif info.alive_count_change > 0:
                self._live(name)

        def matched(info: QoSSubscriptionMatchedInfo) -> None:
            self._offers[name] = info.current_count
            self._silent_beats[name] = 0
            if info.current_count == 0:
                self._heard.discard(name)
                if name not in self._missing:  # it has shut down
                    self._node.diagnostics.value(f"peer_{name}", "gone")

        return SubscriptionEventCallbacks(liveliness=liveliness, matched=matched)

    def _beat(self) -> None:
        self._publisher.publish(Empty())
        for name, offers in self._offers.items():
            if offers and name not in self._heard and name not in self._missing:
                self._silent_beats[name] += 1
                if self._silent_beats[name] > SILENT_BEATS:
                    self._lose(name, SILENT_BEATS * BEAT_S)

    def _turn(self) -> None:
        for name, loss in self._missing.items():
            loss.turns += 1
            self._say_lost(name)
        if self._thread is None:
            return
        for name in self._silent_turns:
            self._silent_turns[name] += 1
            if name in self._missing:
                continue
            allowed = max(SILENT_TURNS, 3 * self._usual_turns[name]) if name in self._heard else _UNHEARD_TURNS
            if name not in self._heard and not self._node.count_publishers(f"{name}/alive"):
                self._silent_turns[name] = 0
            elif self._silent_turns[name] > allowed:
                self._lose(name, allowed * TURN_S)

    def _live(self, name: str) -> None:
        self._heard.add(name)
        self._silent_turns[name] = 0
        self._node.diagnostics.value(f"peer_{name}", "alive")
        if name in self._missing:
            del self._missing[name]
            if self._thread is None and not self._missing:
                self._turns.cancel()
            self._node.get_logger().info(f"{name} lives again")
            self._node.diagnostics.solved(f"peers {name}")
            self._found(name)

    def _lose(self, name: str, silent_s: float) -> None:
        if name not in self._missing:
            self._missing[name] = _Loss(silent_s)
            self._turns.reset()
        self._say_lost(name)
        self._node.diagnostics.value(f"peer_{name}", "lost")
        self._lost(name)

    def _say_lost(self, name: str) -> None:
        """Report a loss: a warning at first, an error when the silence lasts. Each is reported once, without delay."""
        loss, diagnostics = self._missing[name], self._node.diagnostics
        silent_s = loss.silent_s + loss.turns * TURN_S
        lasts = silent_s > LASTING_S - TURN_S / 2
        if loss.said_to_last != lasts:
            diagnostics.forget(f"peers {name}")
            loss.said_to_last = lasts
        silence = f"{name} gave no sign of life for {loss.silent_s:g} s"
        if lasts:
            diagnostics.problem(f"peers {name}", f"{silence} and more: killed, stopped, or hung")
        else:
            diagnostics.problem(f"peers {name}", silence, diagnostics.WARN)
