"""`MotionCheck`: do states and actions fit what robot.yaml says: limits, speeds, and which joint is which?

In: episodes of a robot's rows. Out: `Doubt`s, each with its joint, share and an example. Memory holds sums only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import Joint, RobotSpec

_MARGIN = 0.02  # of a joint's range: encoders and end stops are not exact
_FAR = {"states": 0.5, "actions": 1.0}  # ranges beyond a limit; commands of a gripper go beyond it on purpose
_OFTEN, _SOMETIMES, _SELDOM = 0.5, 0.05, 0.01  # shares of rows
_TOO_FAST, _IMPOSSIBLE = 1.5, 10.0  # times the velocity limit
_FEWEST = 3  # rows: a single one may be a damaged message
_FEWEST_FOR_ORDER = 20
_FITS_BETTER = 3.0  # times nearer to another joint than to its own
_MOVED_S = 0.1  # at full speed: nearer than the way covered in that time, nothing is told of the order
_UNITS = {"revolute": ((np.pi / 180, "degrees"),), "continuous": (), "prismatic": ((1e-3, "mm"), (1e-2, "cm or %"))}


@dataclass(frozen=True)
class Doubt:
    """What does not fit, as a sentence that begins with the joint; `certain` where it cannot be right."""

    text: str
    certain: bool


@dataclass
class _Tally:
    """How often something was beyond a bound, and where it was worst."""

    times: NDArray[np.int64]  # (D,)
    worst: NDArray[np.float64]  # (D,)
    where: list[str]

    @classmethod
    def of(cls, joints: int) -> _Tally:
        return cls(np.zeros(joints, np.int64), np.zeros(joints), [""] * joints)

    def add(
        self, beyond: NDArray[np.bool_], amount: NDArray[np.float64], shown: NDArray[np.float64], name: str
    ) -> None:
        """Count rows (N, D) that are beyond, and keep the one with the largest amount as the example."""
        self.times += beyond.sum(axis=0)
        for j in np.flatnonzero(beyond.any(axis=0)):
            row = int(np.argmax(amount[:, j]))
            if amount[row, j] > self.worst[j]:
                self.worst[j], self.where[j] = amount[row, j], f"{shown[row, j]:.4g} in {name}, frame {row}"


class MotionCheck:
    """Takes a dataset's episodes one after the other."""

    def __init__(self, robot: RobotSpec) -> None:
        joints = len(robot.joints)
        self._robot = robot
        self._lower = np.array([joint.lower for joint in robot.joints])
        self._upper = np.array([joint.upper for joint in robot.joints])
        self._range = self._upper - self._lower
        self._velocity = np.array([joint.velocity for joint in robot.joints])
        self._beyond = {kind: _Tally.of(joints) for kind in _FAR}
        self._far = {kind: np.zeros(joints, np.int64) for kind in _FAR}
        self._by_unit = {kind: np.zeros((joints, 2), np.int64) for kind in _FAR}  # within limits, if of that unit
        self._fast, self._impossible = _Tally.of(joints), np.zeros(joints, np.int64)
        self._zeros, self._zero_at = 0, ""
        self._apart = np.zeros((joints, joints))  # sum of the distances of action a from the next state b
        self._rows = self._steps = self._episodes = 0

    def add_episode(self, states: NDArray[Any], actions: NDArray[Any]) -> None:
        """Take an episode's rows, both (N, D)."""
        name = f"episode {self._episodes}"
        states, actions = states.astype(np.float64), actions.astype(np.float64)
        self._episodes += 1
        self._rows += len(states)
        for kind, values in (("states", states), ("actions", actions)):
            outside = np.maximum(values - self._upper, self._lower - values)
            with np.errstate(invalid="ignore"):  # a continuous joint's range has no end
                beyond = outside > _MARGIN * self._range
                self._far[kind] += (outside > _FAR[kind] * self._range).sum(axis=0)
            self._beyond[kind].add(beyond, outside, values, name)
            for j, joint in enumerate(self._robot.joints):
                for place, (unit, _) in enumerate(_UNITS[joint.type]):
                    scaled = values[:, j] * unit
                    self._by_unit[kind][j, place] += ((scaled >= joint.lower) & (scaled <= joint.upper)).sum()
        if len(states) < 2:
            return
        self._steps += len(states) - 1
        speeds = np.abs(np.diff(states, axis=0)) * self._robot.policy_rate_hz
        self._fast.add(speeds > _TOO_FAST * self._velocity, speeds / self._velocity, speeds, name)
        impossible = speeds > _IMPOSSIBLE * self._velocity
        self._impossible += impossible.sum(axis=0)
        jumps = np.any(speeds > _TOO_FAST * self._velocity, axis=1)
        zeros = 1 + np.flatnonzero((states[1:] == 0).all(axis=1) & jumps)
        self._zeros += len(zeros)
        if len(zeros) and not self._zero_at:
            self._zero_at = f"{name}, frame {zeros[0]}"
        self._apart += np.abs(actions[:-1, :, None] - states[1:, None, :]).sum(axis=0)

    def doubts(self) -> list[Doubt]:
        """What does not fit, of all episodes so far."""
        found = [
            doubt
            for kind in _FAR
            for j, joint in enumerate(self._robot.joints)
            if (doubt := self._limits(kind, j, joint)) is not None
        ]
        found += [doubt for j in range(len(self._robot.joints)) if (doubt := self._speed(j)) is not None]
        return self._zero_rows() + found + self._order()

    def _zero_rows(self) -> list[Doubt]:
        if self._zeros < _FEWEST or self._zeros < _SELDOM * self._rows:
            return []
        names = ", ".join(self._robot.joint_names)
        return [
            Doubt(
                f"{names}: jump to exactly 0 together, {self._zeros} times in {self._rows} rows, such as in "
                f"{self._zero_at}; is there a second publisher?",
                certain=True,
            )
        ]

    def _limits(self, kind: str, j: int, joint: Joint) -> Doubt | None:
        times = int(self._beyond[kind].times[j])
        share, far = times / max(self._rows, 1), self._far[kind][j] / max(self._rows, 1)
        if times < _FEWEST:
            return None
        certain = far >= _SOMETIMES or (kind == "states" and share >= _OFTEN)
        fits = [
            name
            for place, (_, name) in enumerate(_UNITS[joint.type])
            if certain and self._by_unit[kind][j, place] >= (1 - _SOMETIMES) * self._rows
        ]
        unit = f"; are they {fits[0]}?" if fits else ""
        return Doubt(
            f"{joint.name}: {share:.1%} of its {kind} lie beyond robot.yaml's limits {joint.lower:g} to "
            f"{joint.upper:g}, such as {self._beyond[kind].where[j]}{unit}",
            certain,
        )

    def _speed(self, j: int) -> Doubt | None:
        times, joint = int(self._fast.times[j]), self._robot.joints[j]
        if times < _FEWEST:
            return None
        impossible = int(self._impossible[j])
        certain = impossible >= _FEWEST and impossible >= _SELDOM * self._steps
        return Doubt(
            f"{joint.name}: {times / self._steps:.1%} of its steps are faster than {_TOO_FAST:g} times robot.yaml's "
            f"velocity {joint.velocity:g} per s, up to {self._fast.worst[j]:.3g} times, such as {self._fast.where[j]}",
            certain,
        )

    def _order(self) -> list[Doubt]:
        """Joints whose commands are followed by each other's states."""
        if self._steps < _FEWEST_FOR_ORDER:
            return []
        apart, joints = self._apart / self._steps, self._robot.joints
        own = np.diag(apart)
        best = apart.argmin(axis=1)
        wrong = {
            j
            for j in range(len(joints))
            if own[j] > _MOVED_S * self._velocity[j] and own[j] > _FITS_BETTER * apart[j, best[j]]
        }
        wrong = {j for j in wrong if _comes_back(j, best, wrong)}
        return [
            Doubt(
                f"{joints[j].name}: its commands are followed by {joints[best[j]].name}, at {apart[j, best[j]]:.3g} on "
                f"average, and not by itself, at {own[j]:.3g}; the contract's action: joints says in which order a "
                "command has the joints",
                certain=True,
            )
            for j in sorted(wrong)
        ]


def _comes_back(joint: int, best: NDArray[np.intp], among: set[int]) -> bool:
    """Whether joints that were taken for each other form a circle: a single one may only happen to be near."""
    at = joint
    for _ in among:
        at = int(best[at])
        if at == joint:
            return True
        if at not in among:
            return False
    return False
