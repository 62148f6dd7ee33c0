"""The stop ladder's vocabulary: the rungs, what the publisher says of itself, and how long each rung lasts.

fresh plan (following) -> remaining plan (remaining) -> decelerating -> holding -> fault; idle is silence, engaging the
wait for the first chunk, disabled the user's wish. `transitions` says how one leads to another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Rung(StrEnum):
    """Where the follower stands, from silent to moving and back to rest."""

    IDLE = "idle"  # not enabled since the start, or released: nothing is published
    ENGAGING = "engaging"  # enabled; waiting for a chunk captured after that
    FOLLOWING = "following"
    REMAINING = "remaining"  # follows a plan that should have been replaced by now
    DECELERATING = "decelerating"  # nothing to follow: comes to rest
    HOLDING = "holding"  # at rest, repeats the last set point; a fresh plan moves it again
    DISABLED = "disabled"  # comes to rest and holds, by the user's wish
    FAULT = "fault"  # comes to rest and holds until it is reset and enabled again


MOVING = (Rung.FOLLOWING, Rung.REMAINING)


@dataclass(frozen=True)
class FollowerState:
    """What the `state` topic says."""

    rung: Rung = Rung.IDLE
    epoch: int = 0
    reason: str = "not enabled yet"

    @property
    def enabled(self) -> bool:
        """Whether the user wants motion, and nothing has ruled it out."""
        return self.rung not in (Rung.IDLE, Rung.DISABLED, Rung.FAULT)


@dataclass(frozen=True, kw_only=True)
class FollowerSettings:
    """What may be changed while the arm moves; times in seconds, tolerances as what a joint covers in so long."""

    joint_states_timeout_s: float = 0.2  # without measurements for so long: decelerate
    fresh_s: float = math.inf  # a plan is expected to be replaced so long after its image
    remaining_timeout_s: float = 1.0  # so long after that it is not followed any more
    hold_timeout_s: float = 5.0  # after so long without a plan, motion does not resume by itself
    blend_s: float = 0.2  # hand-over from plan to plan
    lead_s: float = 0.0  # how far ahead of now the plan is sampled: until a command acts
    engage_tolerance_s: float = 0.25  # how far from the arm a plan may begin, at full speed
    following_tolerance_s: float = 0.2  # how far behind its set point a joint may be; 0: not checked
    clamp_timeout_s: float = 1.0  # how long a plan may ask for more than the limits give
    max_run_s: float = 0.0  # 0: without end
    release_on_disable: bool = False  # go silent once at rest, instead of holding
