"""A demonstration: the expert solves an episode in simulated time, nudged now and then so that recovery is seen too.

In: a world, an expert, a seed. Out: moment by moment, what the sensors said, what was commanded and what a renderer
needs. Nudges push the drives, not the commands: what is recorded is always the expert's answer to what happened.
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

CONTROL_STEPS = 5  # of physics in a control period: 100 Hz
TIME_LIMIT_S = 20.0
AFTER_SUCCESS_S = 0.8  # recorded on, so that the way home is seen

# Some demonstrations begin at home, the others with the tool anywhere over the table. If all began at home, where the
# arm is would tell where it is going, and a policy would learn from that instead of looking for the cube.
FROM_HOME = 0.3
START_X, START_Y, START_Z = (0.16, 0.42), (-0.32, 0.34), (0.10, 0.36)  # metres, of the tool
START_ROLL, START_YAW, START_GRIPPER = (-0.6, 0.6), (0.0, 0.35), (0.02, 0.04)

# After a mishap the fingers are shut around nothing, over the bin, over the cube or anywhere, and the cube may be where
# no episode begins with it. The expert sees where it is and never closes the hand in vain. A policy does, and has to
# notice.
SHUT = (0.012, 0.022)  # of the gripper; a cube between the fingers keeps it further open
ASTRAY = 0.5  # share of the mishaps in which the cube is not at a usual place
ASTRAY_X, ASTRAY_Y = (0.20, 0.40), (-0.30, 0.20)
BESIDE_BIN = 0.115  # metres from its middle, at least
NEAR, LOW, HIGH = 0.05, 0.08, 0.20  # metres: how near over bin or cube the tool is, and how high

NUDGE_EVERY_S = 2.0  # on average
NUDGE_S = (0.3, 0.9)  # from the shortest to the longest
# Standard deviation of a nudge's peak, each joint by itself; the gripper gets none. The expert starts anew from where
# the joints are, so a nudge adds up from period to period: this one makes the arm drift by up to 0.09 rad/s.
NUDGE_RAD = 0.003

_NUDGES, _START = 103, 104  # streams of random numbers beside those of the world


@dataclass(frozen=True, eq=False)
class Moment:
    """What happened at one moment of an episode: a control period began, a picture was taken, or both."""

    time_ns: int  # since the episode began
    joints: Measurement | None  # what the sensors said, at the beginning of a control period,
    command: NDArray[np.float64] | None  # and the set points (D,) sent then
    snapshot: Snapshot | None  # where a picture is taken


def demonstrate(
    world: World, expert: Expert, robot: RobotSpec, *, seed: int, mishap: bool = False, nudge_rad: float = NUDGE_RAD
) -> Iterator[Moment]:
    """Reset `world` to `seed` and let the expert solve it; afterwards `world.episode` tells whether it did.

    With `mishap` it begins as after one: the hand shut around nothing, the cube perhaps astray.
    Set points go in straight lines from one policy period to the next, towards the expert's answer to what the
    sensors said at the beginning of the period.
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
    """Put the arm, and perhaps the cube, to where a mishap may have left them."""
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
    """Pushes that swell and fade, one after the other at random."""

    def __init__(self, rng: np.random.Generator, joints: int, peak_rad: float) -> None:
        self._rng = rng
        self._scale = np.where(np.arange(joints) < joints - 1, peak_rad, 0.0)
        self._next(0.0)

    def at(self, time_s: float) -> NDArray[np.float64]:
        """By how much the drives' set points (D,) are off; to be asked in the order of time."""
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
