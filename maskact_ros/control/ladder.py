"""The stop ladder's types: the rungs, the publisher's state, and the settings, such as each rung's timeout.

fresh plan (following) -> remaining plan (remaining) -> decelerating -> holding -> fault. Idle is silence; engaging is
the wait for the first chunk; disabled is by the user's request. `transitions` says which rung leads to which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Rung(StrEnum):
    """The follower's state, from silent to moving and back to rest."""

    IDLE = "idle"  # not enabled since the start, or released: nothing is published
    ENGAGING = "engaging"  # enabled; waiting for a chunk captured after that
    FOLLOWING = "following"
    REMAINING = "remaining"  # follows a plan that should have been replaced by now
    DECELERATING = "decelerating"  # nothing to follow: the arm comes to rest
    HOLDING = "holding"  # at rest, repeats the last set point; a fresh plan moves the arm again
    DISABLED = "disabled"  # comes to rest and holds, by the user's request
    FAULT = "fault"  # comes to rest and holds until it is reset and enabled again


MOVING = (Rung.FOLLOWING, Rung.REMAINING)


@dataclass(frozen=True)
class FollowerState:
    """The content of the `state` topic."""

    rung: Rung = Rung.IDLE
    epoch: int = 0
    reason: str = "not enabled yet"

    @property
    def enabled(self) -> bool:
        """Whether the user has enabled motion, and neither a fault nor a disabling has ended that."""
        return self.rung not in (Rung.IDLE, Rung.DISABLED, Rung.FAULT)


@dataclass(frozen=True, kw_only=True)
class FollowerSettings:
    """Settings that may change while the arm moves; tolerance [rad or m] = value [s] x velocity limit."""

    joint_states_timeout_s: float = 0.2  # without joint states for longer than this, the arm decelerates
    fresh_s: float = math.inf  # a chunk is stale this long after its image
    remaining_timeout_s: float = 1.0  # how long a stale chunk is still followed
    hold_timeout_s: float = 5.0  # longer without a plan: holding becomes a fault, engaging is given up
    blend_s: float = 0.2  # duration of the hand-over from plan to plan
    lead_s: float = 0.0  # delay from a command to the motion; the plan is sampled this far ahead of now
    engage_tolerance_s: float = 0.25  # largest distance between the arm and the beginning of its first plan
    following_tolerance_s: float = 0.2  # largest distance between a joint and its set point; 0: not checked
    clamp_timeout_s: float = 1.0  # how long a plan may ask for more than the limits allow; longer is a fault
    max_run_s: float = 0.0  # longest motion; 0: no limit
    release_on_disable: bool = False  # go silent once at rest, instead of holding
