"""`FeatureIntake`: from a message on `features` to `Received`: parsed, of the right policy, and recent.

What does not pass is counted, and said in the diagnostics.
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

AHEAD_S = 0.2  # that features may be of the future: a simulation's clock has coarse ticks


@dataclass(frozen=True, eq=False)
class Received:
    """Features as they came."""

    features: Features
    received_s: float  # on the steady clock
    under_way_s: float  # by the system's clocks of sender and receiver


class FeatureIntake:
    """Looks at features twice: when they come, and when their turn to be planned from has come (watched by `turn`).

    Args:
        diagnostics: the node's.
        clock: the node's, which dates what comes.
        limit_s: `max_image_age_s`, as it is now.
        expected: the weights that features must be of; it is given those that they are of.
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
        """The node begins anew."""
        self._receipt.reset()
        self.turn.reset()

    def is_recent(self, received: Received) -> bool:
        """Whether features whose turn has come are still of an image that is not too old."""
        return self._is_recent(received, "image_age_at_plan", self.turn)

    def receive(self, data: bytes, about: Mapping[str, int]) -> Received | None:
        """The features of a serialised message, with rclpy's `MessageInfo`; None where they are not to be used."""
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
        sent_ns = about["source_timestamp"] or came_ns  # zero where the middleware does not tell
        received = Received(features, time.monotonic(), (came_ns - sent_ns) / 1e9)
        if not self._is_recent(received, "features_age_at_receipt", self._receipt):
            return None
        self._receipt.used()
        return received

    def _is_recent(self, received: Received, stage: str, watch: DropWatch) -> bool:
        """Whether features are of an image that is not too old, by its stamp and by their receipt."""
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
