"""`Lateness`: of features that are too old, where the time went: before they were sent, on their way, or here.

On their way they are by the system's clocks of two machines. So much time is seldom the network's: the clocks differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lateness:
    """Of one image's features, in seconds."""

    age_s: float  # since the image's stamp, by this node's clock
    under_way_s: float  # from their sending, by the sender's clock, to their receipt, by this one's
    waited_s: float  # since their receipt

    def sentence(self, limit_s: float) -> str:
        """How old, what is allowed, and what it may be."""
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
