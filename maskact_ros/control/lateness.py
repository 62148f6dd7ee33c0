"""`Lateness`: for features that are too old, the stage that took the time: before sending, in transport, or waiting.

The transport time is the difference of two machines' clocks. If it is long, the clocks usually differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lateness:
    """The age of one image's features and its parts, in seconds."""

    age_s: float  # since the image's stamp, by this node's clock
    under_way_s: float  # from sending, by the sender's clock, to receipt, by this machine's clock
    waited_s: float  # since receipt

    def sentence(self, limit_s: float) -> str:
        """The age, the allowed age, and the likely cause."""
        parts = {
            f"{self.under_way_s:.3f} s of that lie between their sending and their receipt: the clocks of the two "
            "machines differ, or the network is slow; synchronise the clocks": self.under_way_s,
            f"they waited for {self.waited_s:.3f} s of that here: inference is too slow for this machine": (
                self.waited_s
            ),
            f"{self._before_s:.3f} s of that had passed when they were sent: camera_encoder is too slow for its "
            "machine, or the camera's images come late": self._before_s,
        }
        cause = max(parts, key=parts.__getitem__)
        return f"their image is {self.age_s:.3f} s old; allowed: {limit_s:g} s (max_image_age_s); {cause}"

    @property
    def _before_s(self) -> float:
        return self.age_s - self.under_way_s - self.waited_s
