"""`FeatureIntake`: turns messages on `features` into `Received`, if they parse, are recent and of the right policy.

Other messages are dropped, counted, and reported in the diagnostics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maskact_ros.control.lateness import Lateness
from maskact_ros.core.features import Features
from maskact_ros.nodes.ros.diagnostics import Diagnostics
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.image_cdr import see_compressed_image
from maskact_ros.nodes.ros.messages import MessageError, features_from_message

AHEAD_S = 0.2  # how far in the future features may be stamped: a simulated clock has coarse ticks


@dataclass(frozen=True, eq=False)
class Received:
    """Received features."""

    features: Features
    received_s: float  # on the steady clock
    under_way_s: float  # transport time, by the system clocks of sender and receiver


class FeatureIntake:
    """Checks features twice: on receipt, and again when planning from them begins (counted by `turn`).

    Args:
        diagnostics: the node's.
        clock: the node's clock.
        limit_s: returns the present `max_image_age_s`.
        expected: returns the hash that features must have; it is given the hash that they have.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        clock: EvenClock,
        *,
        limit_s: Callable[[], float],
        expected: Callable[[str], str],
    ):
        self._diagnostics, self._clock, self._limit_s, self._expected = diagnostics, clock, limit_s, expected
        self._receipt = DropWatch(diagnostics, "features are not planned from")
        self.turn = DropWatch(diagnostics, "features whose turn has come are not planned from")

    def reset(self) -> None:
        """Forget what was dropped so far; called when the node is activated."""
        self._receipt.reset()
        self.turn.reset()

    def is_recent(self, received: Received) -> bool:
        """Whether the image of these features is still recent enough when planning from them begins."""
        return self._is_recent(received, "image_age_at_plan", self.turn)

    def receive(self, data: bytes, about: Mapping[str, int]) -> Received | None:
        """The features of a serialised message, with rclpy's `MessageInfo`; None if they must not be used."""
        try:
            features = features_from_message(see_compressed_image(data))
        except MessageError as error:
            self._diagnostics.problem("features", str(error))
            return None
        expected = self._expected(features.weights_hash)
        if features.weights_hash != expected:
            self._diagnostics.problem(
                "features",
                f"the features are of the weights {features.weights_hash[:12]}, this node has {expected[:12]}; "
                "start both nodes with the same policy_path, or set that of either",
            )
            return None
        self._diagnostics.solved("features")
        self._diagnostics.event("features")
        came_ns = about["received_timestamp"]
        sent_ns = about["source_timestamp"] or came_ns  # zero where the middleware does not give it
        received = Received(features, time.monotonic(), (came_ns - sent_ns) / 1e9)
        if not self._is_recent(received, "features_age_at_receipt", self._receipt):
            return None
        self._receipt.used()
        return received

    def _is_recent(self, received: Received, stage: str, watch: DropWatch) -> bool:
        """Whether the features' image is recent enough, by its stamp and by their receipt."""
        age_s = (self._clock.now_ns() - received.features.stamp_ns) / 1e9
        waited_s = time.monotonic() - received.received_s
        self._diagnostics.duration(stage, age_s * 1e3)
        limit_s = self._limit_s()
        if not self._clock.is_recent(age_s, received.received_s, limit_s):
            old_s = max(age_s, waited_s)
            watch.dropped("features_too_old", lambda: Lateness(old_s, received.under_way_s, waited_s).sentence(limit_s))
            return False
        if age_s < -AHEAD_S - self._clock.off_ns / 1e9:
            self._diagnostics.problem(
                "clock",
                f"the features' image is {-age_s:.3f} s ahead of this node's clock: the clocks of the machines differ; "
                "synchronise them",
                self._diagnostics.WARN,
            )
        else:
            self._diagnostics.solved("clock")
        return True
