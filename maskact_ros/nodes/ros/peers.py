"""Do our other nodes live? Each offers a topic on which it gives signs of life, and hears the others'.

In: names of nodes. Out: who was lost, and who lives again. With liveliness events a process that is killed or stopped
is lost within a tenth of a second (within some seconds, if that happens as it starts); without, within 0.8 s.
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

LEASE_NS = 100_000_000  # without a sign of life from its process for so long, a node counts as lost
BEAT_S = 0.5  # between two messages, where events tell of silences
# Who is found but gives no sign for so many beats is lost. Turns are counted and not time: between two of them all is
# heard that has come, however late we are.
SILENT_BEATS = 4
TURN_S = 0.1  # between two messages, and two looks at who was silent, where there are no events
SILENT_TURNS = 5  # and how many turns may pass without a message; thrice as many as usual, if that is more
_UNHEARD_TURNS = round(SILENT_BEATS * BEAT_S / TURN_S)
_RAREST_TURNS = round(BEAT_S / TURN_S) + 1  # between two messages of a peer that has events itself
LASTING_S = 0.5  # a shorter silence is a warning: a busy machine keeps processes waiting
# RMWs that tell of liveliness. Others may accept to be asked for these events, and never tell.
_WITH_LIVELINESS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp", "rmw_cyclonedds_cpp", "rmw_connextdds")
_PLAIN = QoSProfile(depth=1)
ALIVE = QoSProfile(
    depth=1, liveliness=QoSLivelinessPolicy.AUTOMATIC, liveliness_lease_duration=Duration(nanoseconds=LEASE_NS)
)


@dataclass
class _Loss:
    silent_s: float  # when it was noticed
    turns: int = 0  # that have passed since
    said_to_last: bool | None = None  # None before anything was said


class Peers:
    """Offers `<name>/alive`, the node's own name unless given, and hears those of `others`.

    Who is lost, and found again, is said in the log and on /diagnostics, where the value `peer_<name>` tells how it is;
    `lost` and `found` are called, in the executor's thread, with the name besides.

    Fast DDS tells at once of a process that falls silent, but not reliably of one that lives: it can miss a first sign
    of life, and counts wrongly from then on, as it does from when a killed process is forgotten, after 20 s. So of its
    events the changes count and not the sums, and messages tell of life, too. An RMW without liveliness events leaves
    it all to the messages, which then come more often, from a thread of their own: that the process lives is what
    they say, as DDS does. There a node that took its leave cannot be told from one that died.
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
        self._offers = dict.fromkeys(others, 0)  # how many DDS knows of, living or not
        self._heard: set[str] = set()  # who has ever given a sign of life, of those that offer
        self._silent_beats = dict.fromkeys(others, 0)  # of those that offer and have not
        self._silent_turns = dict.fromkeys(others, 0)  # since each one's last message
        self._usual_turns = dict.fromkeys(others, _RAREST_TURNS)  # from one message to the next
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
            self._turns.cancel()  # until somebody is lost
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
        """Who was lost and is not back."""
        return sorted(self._missing)

    def destroy(self) -> None:
        """Stop offering and hearing."""
        if self._thread is not None:
            self._thread.stop()
        for subscription in self._subscriptions or ():
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_timer(self._timer)
        self._node.destroy_timer(self._turns)

    def _hear_events(self, names: Sequence[str]) -> list[Subscription[Empty]] | None:
        """The subscriptions with their events; None where the RMW does not know those."""
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
                if name not in self._missing:  # it took its leave
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
        """A warning at first, an error once the silence lasts: each is said once, and at once."""
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
