"""A demonstration: the expert solves an episode in simulated time; random nudges make it show recoveries, too.

In: a world, an expert, a seed. Out: for each moment the sensors' values, the command, and a snapshot for a renderer.
Nudges act on the drives, not on the commands: the recorded commands are always the expert's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.kinematics import joints_for
from maskact_ros.sim.scene import TIMESTEP_S
from maskact_ros.sim.world import HOME, Measurement, Snapshot, World

CONTROL_STEPS = 5  # physics steps in a control period (100 Hz)
TIME_LIMIT_S = 20.0
AFTER_SUCCESS_S = 0.8  # recording continues for this long, to show the way home

# Some demonstrations begin at home, the others with the tool anywhere over the table. If all began at home, the arm's
# position would show where it is going, and a policy would learn from that instead of from the cube.
FROM_HOME = 0.3
START_X, START_Y, START_Z = (0.16, 0.42), (-0.32, 0.34), (0.10, 0.36)  # metres, of the tool
START_ROLL, START_YAW, START_GRIPPER = (-0.6, 0.6), (0.0, 0.35), (0.02, 0.04)

# After a mishap the gripper is closed without the cube (over the bin, over the cube or anywhere), and the cube may be
# outside of its usual range. The expert knows the cube's pose, so it never closes the gripper in vain. A policy
# sometimes does, and must learn to notice.
SHUT = (0.012, 0.022)  # gripper positions; with a cube between the fingers it is wider open
ASTRAY = 0.5  # share of the mishaps with the cube outside of its usual range
ASTRAY_X, ASTRAY_Y = (0.20, 0.40), (-0.30, 0.20)
BESIDE_BIN = 0.115  # metres; least distance from the bin's middle
NEAR, LOW, HIGH = 0.05, 0.08, 0.20  # metres: the tool's horizontal distance from bin or cube; its height from, to

NUDGE_EVERY_S = 2.0  # mean interval
NUDGE_S = (0.3, 0.9)  # shortest and longest duration
# Standard deviation of a nudge's peak, for each joint; the gripper gets none. The expert plans from the measured
# joints, so a nudge accumulates from period to period: this one makes the arm drift by up to 0.09 rad/s.
NUDGE_RAD = 0.003

_NUDGES, _START = 103, 104  # streams of random numbers, different from the world's


@dataclass(frozen=True, eq=False)
class Moment:
    """One moment of an episode: a control period begins, a picture is taken, or both."""

    time_ns: int  # since the episode began
    joints: Measurement | None  # the sensors' values, when a control period begins
    command: NDArray[np.float64] | None  # the set points (D,) sent then
    snapshot: Snapshot | None  # if a picture is taken


def demonstrate(
    world: World, expert: Expert, robot: RobotSpec, *, seed: int, mishap: bool = False, nudge_rad: float = NUDGE_RAD
) -> Iterator[Moment]:
    """Reset `world` to `seed` and let the expert solve it; afterwards `world.episode` says whether it did.

    With `mishap` it begins as after a mishap: the gripper closed, the cube perhaps outside of its usual range.
    Within a policy period set points go in a straight line to the expert's target, which follows from the sensors'
    values at the beginning of the period.
    """
    world.reset(seed)
    rng = np.random.default_rng([seed, _START])
    if mishap:
        _undo(world, rng)
    else:
        world.place_arm(_start(rng))
    steps_of_period = robot.policy_period_ns / 1e9 / TIMESTEP_S  # not a whole number
    nudges = _Nudges(np.random.default_rng([seed, _NUDGES]), len(robot.joints), nudge_rad)
    command = start = goal = world.joint_positions
    periods, began = 0, 0
    for step in range(round(TIME_LIMIT_S / TIMESTEP_S)):
        episode = world.episode
        if episode.success and world.time_s > episode.seconds + AFTER_SUCCESS_S:
            return
        period_begins = step >= round(periods * steps_of_period)
        control_begins = step % CONTROL_STEPS == 0
        joints = world.measure() if control_begins else None
        if period_begins:
            seen = joints or world.measure()
            start, began = command, step
            goal = expert.act(seen.positions, seen.velocities, world.object_pose, world.bin_pose)
            periods += 1
        if control_begins:
            along = (step + CONTROL_STEPS - began) / steps_of_period
            command = start + min(along, 1.0) * (goal - start)
        if control_begins or period_begins:
            yield Moment(
                time_ns=round(step * TIMESTEP_S * 1e9),
                joints=joints,
                command=command if control_begins else None,
                snapshot=world.snapshot() if period_begins else None,
            )
        world.step(command + nudges.at(step * TIMESTEP_S), 1)


def _start(rng: np.random.Generator) -> NDArray[np.float64]:
    """Joint positions (D,) to begin at."""
    if rng.random() < FROM_HOME:
        return HOME
    tool = np.array([rng.uniform(*START_X), rng.uniform(*START_Y), rng.uniform(*START_Z)])
    arm = joints_for(tool, rng.uniform(*START_ROLL))
    arm[4] = rng.uniform(*START_YAW)
    return np.append(arm, rng.uniform(*START_GRIPPER))


def _undo(world: World, rng: np.random.Generator) -> None:
    """Put the arm, and perhaps the cube, where a mishap may have left them."""
    target, cube = world.bin_pose[:2], world.object_pose
    if rng.random() < ASTRAY:
        while True:
            cube[:2] = rng.uniform(*ASTRAY_X), rng.uniform(*ASTRAY_Y)
            if np.hypot(*(cube[:2] - target)) > BESIDE_BIN:
                break
        turn = rng.uniform(-math.pi, math.pi)
        cube[3:] = math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)
        world.place_object(cube)
    over = (target, cube[:2], np.array([rng.uniform(*START_X), rng.uniform(*START_Y)]))[rng.integers(3)]
    tool = np.append(over + rng.uniform(-NEAR, NEAR, 2), rng.uniform(LOW, HIGH))
    world.place_arm(np.append(joints_for(tool, rng.uniform(*START_ROLL)), rng.uniform(*SHUT)))


class _Nudges:
    """Random pushes, one after the other, that rise and fall smoothly."""

    def __init__(self, rng: np.random.Generator, joints: int, peak_rad: float) -> None:
        self._rng = rng
        self._scale = np.where(np.arange(joints) < joints - 1, peak_rad, 0.0)
        self._next(0.0)

    def at(self, time_s: float) -> NDArray[np.float64]:
        """The offset (D,) of the drives' set points; call it with rising times."""
        if time_s > self._end_s:
            self._next(time_s)
        if time_s < self._begin_s:
            return np.zeros_like(self._peak)
        phase = (time_s - self._begin_s) / (self._end_s - self._begin_s)
        push: NDArray[np.float64] = self._peak * math.sin(math.pi * phase) ** 2
        return push

    def _next(self, now_s: float) -> None:
        self._begin_s = now_s + self._rng.exponential(NUDGE_EVERY_S)
        self._end_s = self._begin_s + self._rng.uniform(*NUDGE_S)
        self._peak = self._rng.normal(0.0, 1.0, len(self._scale)) * self._scale
