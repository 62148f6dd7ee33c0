"""Do our other nodes live? Each offers a topic on which it gives a sign of life twice a second, and hears the others'.

In: names of nodes. Out: who was lost, within a tenth of a second (DDS notices a process that is killed or stopped;
within some seconds, if that happens as it starts), and who lives again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.duration import Duration
from rclpy.event_handler import QoSLivelinessChangedInfo, QoSSubscriptionMatchedInfo, SubscriptionEventCallbacks
from rclpy.qos import QoSLivelinessPolicy, QoSProfile
from rclpy.subscription import Subscription
from std_msgs.msg import Empty

from maskact_ros.nodes.managed import ManagedNode

LEASE_NS = 100_000_000  # without a sign of life from its process for so long, a node counts as lost
BEAT_S = 0.5
# Who is found but gives no sign for so many beats is lost. Turns are counted and not time: between two of them all is
# heard that has come, however late we are.
SILENT_BEATS = 4
ALIVE = QoSProfile(
    depth=1, liveliness=QoSLivelinessPolicy.AUTOMATIC, liveliness_lease_duration=Duration(nanoseconds=LEASE_NS)
)


class Peers:
    """Offers `<name>/alive`, the node's own name unless given, and hears those of `others`.

    Who is lost, and found again, is said in the log and on /diagnostics, where the value `peer_<name>` tells how it is;
    `lost` and `found` are called, in the executor's thread, with the name besides.

    Fast DDS tells at once of a process that falls silent, but not reliably of one that lives: it can miss a first sign
    of life, and counts wrongly from then on, as it does from when a killed process is forgotten, after 20 s. So of its
    events the changes count and not the sums, and messages tell of life, too.
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
        self._missing: set[str] = set()
        self._offers = dict.fromkeys(others, 0)  # how many DDS knows of, living or not
        self._heard: set[str] = set()  # who has ever given a sign of life, of those that offer
        self._silent_beats = dict.fromkeys(others, 0)  # of those that offer and have not
        for other in others:
            node.diagnostics.value(f"peer_{other}", "not met")
        self._publisher = node.create_publisher(Empty, f"{name or node.get_name()}/alive", ALIVE)
        self._subscriptions = [self._hear(other) for other in others]
        self._timer = node.create_steady_timer(BEAT_S, self._beat)

    @property
    def missing(self) -> list[str]:
        """Who was lost and is not back."""
        return sorted(self._missing)

    def destroy(self) -> None:
        """Stop offering and hearing."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_timer(self._timer)

    def _hear(self, name: str) -> Subscription[Empty]:
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

        callbacks = SubscriptionEventCallbacks(liveliness=liveliness, matched=matched)
        return self._node.create_subscription(
            Empty, f"{name}/alive", lambda _: self._live(name), ALIVE, event_callbacks=callbacks
        )

    def _beat(self) -> None:
        self._publisher.publish(Empty())
        for name, offers in self._offers.items():
            if offers and name not in self._heard and name not in self._missing:
                self._silent_beats[name] += 1
                if self._silent_beats[name] > SILENT_BEATS:
                    self._lose(name, SILENT_BEATS * BEAT_S)

    def _live(self, name: str) -> None:
        self._heard.add(name)
        self._node.diagnostics.value(f"peer_{name}", "alive")
        if name in self._missing:
            self._missing.discard(name)
            self._node.get_logger().info(f"{name} lives again")
            self._node.diagnostics.solved(f"peers {name}")
            self._found(name)

    def _lose(self, name: str, silent_s: float) -> None:
        self._missing.add(name)
        silence = f"{name} gave no sign of life for {silent_s:g} s: killed, stopped, or hung"
        self._node.diagnostics.problem(f"peers {name}", silence)
        self._node.diagnostics.value(f"peer_{name}", "lost")
        self._lost(name)
