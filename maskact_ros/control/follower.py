"""`PlanFollower`: what to command now. The action publisher's decisions, without ROS and without threads.

In: chunks, joint states, and the wish to be enabled or not. Out: each control period a set point, or silence, and the
rung it stands on: idle (silent) -> engaging -> following -> holding; disabling brakes and holds the last set point.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from maskact_ros.chunk import Chunk
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.robot import RobotSpec

Vector = NDArray[np.float64]

# How far outside of its limits a joint may be measured when the arm engages: what it covers in so long at full speed.
_ENGAGING_TOLERANCE_S = 0.02

# Without a command for so long, or three periods, an arm has stopped at the last one, and starts again from rest.
_STALL_S = 0.1


class Rung(StrEnum):
    """Where the follower stands, from silent to moving and back to rest."""

    IDLE = "idle"  # not enabled since the start: nothing is published
    ENGAGING = "engaging"  # enabled; waiting for a chunk captured after that
    FOLLOWING = "following"
    HOLDING = "holding"  # nothing to follow: brakes, then repeats the last set point
    DISABLED = "disabled"  # as holding, by the user's wish


@dataclass(frozen=True)
class FollowerState:
    """What the `state` topic says."""

    rung: Rung = Rung.IDLE
    epoch: int = 0
    reason: str = "not enabled yet"

    @property
    def enabled(self) -> bool:
        """Whether the user wants motion."""
        return self.rung not in (Rung.IDLE, Rung.DISABLED)


@dataclass(frozen=True)
class Measured:
    """The last joint state: positions (D,) and when it came, on the steady clock."""

    positions: Vector
    received_s: float


class PlanFollower:
    """One command loop's memory; every method is called from that loop's thread.

    Times: `now_ns` is the node's clock, in which chunks are stamped; `steady_s` the steady clock, for watchdogs.
    """

    def __init__(
        self, robot: RobotSpec, *, rate_hz: float, joint_states_timeout_s: float, release_on_disable: bool = False
    ):
        self._robot = robot
        self._period_ns = round(1e9 / rate_hz)
        self._joint_states_timeout_s = joint_states_timeout_s
        self._release_on_disable = release_on_disable
        self._stall_s = max(_STALL_S, 3.0 / rate_hz)
        self._filter = SafetyFilter(robot, 1.0 / rate_hz)
        self._chunk: Chunk | None = None
        self._measured: Measured | None = None
        self._epoch_began_ns = 0
        self._last_now_ns: int | None = None
        self._last_steady_s: float | None = None
        self._started = False  # whether set points are being sent; the first one starts from the measured pose
        self._awaited = ""  # what the epoch waits for until its first chunk
        self.state = FollowerState()
        self._chunk_is_new = False  # no set point of it has been made yet
        self.image_to_command_ms: deque[float] = deque(maxlen=100)  # age of each chunk at its first set point
        self.chunks_refused = 0
        self.stalls = 0  # how often the loop stood still for so long that the arm has, too

    @property
    def clamped(self) -> int:
        """Set points whose target lay beyond a joint's limits."""
        return self._filter.clamped

    @property
    def at_rest(self) -> bool:
        """Whether no motion is being commanded."""
        return self._filter.at_rest

    def enable(self, now_ns: int) -> None:
        """Follow chunks captured from now on; does nothing while enabled."""
        if not self.state.enabled:
            self._new_epoch(now_ns, Rung.ENGAGING, "waiting for a chunk captured after enabling")

    def disable(self, reason: str) -> None:
        """Brake, then keep the last set point or go silent, as chosen; silent as before if there never was one."""
        if self.state.enabled:
            self._chunk = None
            rung = Rung.DISABLED if self._started else Rung.IDLE
            self.state = replace(self.state, rung=rung, reason=reason)

    def reset(self, now_ns: int) -> None:
        """Throw away the plan and everything in flight; stays enabled if it was, and goes on from the set point."""
        if self.state.enabled:
            self._new_epoch(now_ns, Rung.ENGAGING, "reset; waiting for a chunk captured after it")
        else:
            self._new_epoch(now_ns, self.state.rung, self.state.reason)

    def observe(self, measured: Measured) -> None:
        """Take a joint state; raises ValueError unless it is a finite number for each joint."""
        if measured.positions.shape != (len(self._robot.joints),) or not np.isfinite(measured.positions).all():
            raise ValueError(f"the measured pose is {measured.positions}; allowed: a finite number for each joint")
        self._measured = measured

    def offer(self, chunk: Chunk, now_ns: int) -> None:
        """Take a chunk, unless it is older than the plan in force or than the epoch, or from the future.

        Raises:
            ValueError: the chunk is not of this robot's joints.
        """
        if chunk.actions.shape[1] != len(self._robot.joints):
            raise ValueError(f"the chunk has {chunk.actions.shape[1]} joints, the robot {len(self._robot.joints)}")
        newest_ns = self._epoch_began_ns if self._chunk is None else max(self._epoch_began_ns, self._chunk.stamp_ns)
        if not self.state.enabled or not newest_ns < chunk.stamp_ns <= now_ns:
            self.chunks_refused += 1
            return
        self._chunk = chunk
        self._chunk_is_new = True

    def brake(self) -> Vector | None:
        """The set point (D,) of the quickest stop, or None if none was ever sent; needs nothing but the last one."""
        return self._filter.brake() if self._started else None

    def tick(self, now_ns: int, steady_s: float) -> Vector | None:
        """The set point (D,) of this period, or None to stay silent."""
        if self._last_now_ns is not None and now_ns < self._last_now_ns and self.state.enabled:
            self._new_epoch(now_ns, Rung.ENGAGING, "the clock jumped back; waiting for a new chunk")
        if self._last_steady_s is not None and steady_s - self._last_steady_s > self._stall_s:
            self.stalls += 1
            self._filter.halt()
        self._last_now_ns, self._last_steady_s = now_ns, steady_s
        if not self.state.enabled:
            return self._disabled()
        problem = self._problem(now_ns, steady_s)
        if problem is not None:
            rung = Rung.ENGAGING if self.state.rung is Rung.ENGAGING else Rung.HOLDING
            self.state = replace(self.state, rung=rung, reason=problem)
            return self.brake()
        return self._follow(now_ns)

    def _problem(self, now_ns: int, steady_s: float) -> str | None:
        """Why there is nothing to follow, or None."""
        if self._measured is None or steady_s - self._measured.received_s > self._joint_states_timeout_s:
            return f"no joint states for {self._joint_states_timeout_s:g} s"
        if self._chunk is None:
            return self._awaited
        if now_ns > self._chunk.end_ns:
            return "the chunk is used up and no new one has come"
        return None if self._started else self._misplaced(self._measured.positions)

    def _disabled(self) -> Vector | None:
        set_point = self.brake()
        if self._started and self._release_on_disable and self._filter.at_rest:
            self._started = False
            self.state = replace(self.state, rung=Rung.IDLE, reason=f"{self.state.reason}; released")
        return set_point

    def _misplaced(self, pose: Vector) -> str | None:
        """Why the arm cannot engage at a measured pose, or None: set points inside the limits would be a jump."""
        for joint, position in zip(self._robot.joints, pose, strict=True):
            beyond = max(joint.lower - position, position - joint.upper)
            if beyond > joint.velocity * _ENGAGING_TOLERANCE_S:
                # Without the position: its noise would make a new reason of every period.
                return f"{joint.name} is beyond its limits, {joint.lower:g} to {joint.upper:g}; move it back by hand"
        return None

    def _follow(self, now_ns: int) -> Vector:
        assert self._chunk is not None
        assert self._measured is not None
        if not self._started:
            self._filter.start(self._measured.positions)
        previous, target = self._chunk.sample(np.array([now_ns - self._period_ns, now_ns]))
        if self._chunk_is_new:
            self._chunk_is_new = False
            self.image_to_command_ms.append((now_ns - self._chunk.stamp_ns) / 1e6)
        if self.state.rung is not Rung.FOLLOWING:
            self.state = replace(self.state, rung=Rung.FOLLOWING, reason="following the plan")
        self._started = True
        return self._filter.follow(target, previous)

    def _new_epoch(self, now_ns: int, rung: Rung, reason: str) -> None:
        self._chunk = None
        self._epoch_began_ns = now_ns
        self._awaited = reason
        self.state = FollowerState(rung=rung, epoch=self.state.epoch + 1, reason=reason)
