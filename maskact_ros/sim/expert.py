"""The scripted expert: from joint states and the poses of cube and bin to the next joint set points.

It has no memory: its actions depend only on the present poses. So it recovers from a cube that was moved or lost, a
plan from an old pose continues the present motion, and a policy can learn it from single pictures.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.kinematics import joints_for, tool_position
from maskact_ros.sim.scene import BIN_HALF, CUBE_HALF, TRACKING_LAG_S
from maskact_ros.sim.world import HOME

Vector = NDArray[np.float64]

CRUISE = 0.20  # speed as a fraction of the velocity limits
EFFORT = 0.25  # acceleration as a fraction of the limits
SETTLING_S = 0.32  # time constant of the end of a motion

OPEN, SQUEEZE = 0.04, 0.018  # set points of the gripper
TOUCHING = CUBE_HALF + 0.0008  # gripper opening when the fingers are on the cube
HOVER = 0.11  # height above the cube from which the tool goes down to it
CARRY_HEIGHT = 0.19  # of the tool
DROP_HEIGHT = 0.085  # of the tool, above the bin's underside
GATE = 0.04  # metres below the path over which the way sideways closes


class Expert:
    """Picks the cube up, drops it into the bin and goes home."""

    def __init__(self, robot: RobotSpec) -> None:
        self._period_s = 1.0 / robot.policy_rate_hz
        self._lower, self._upper = robot.lower, robot.upper
        self._cruise = CRUISE * robot.velocity
        self._speeding = EFFORT * robot.acceleration * self._period_s  # change of speed in a period

    def act(self, positions: Vector, velocities: Vector, object_pose: Vector, bin_pose: Vector) -> Vector:
        """The joint set points (D,) one policy period from now; arguments as in `rollout`."""
        first: Vector = self.rollout(positions, velocities, object_pose, bin_pose, 1)[0]
        return first

    def rollout(
        self, positions: Vector, velocities: Vector, object_pose: Vector, bin_pose: Vector, steps: int
    ) -> Vector:
        """The next joint set points (steps, D), a policy period apart, the first of them one period from now.

        In: measured positions and velocities (D,), and poses (7,): x, y, z, quaternion w, x, y, z. The prediction
        assumes that a held cube moves with the hand, and falls when the hand opens.
        """
        cube, turn = np.array(object_pose[:3]), _turn(object_pose[3:])
        speed = np.array(velocities)
        # The present set points are ahead of the joints. A held cube keeps the fingers from reaching their set point.
        point = positions + TRACKING_LAG_S * speed
        if _holds(point, cube) and self._goal(point, cube, turn, bin_pose[:3])[-1] == SQUEEZE:
            point[-1], speed[-1] = SQUEEZE, 0.0
        path = np.empty((steps, len(point)))
        for i in range(steps):
            held = _holds(point, cube)
            goal = self._goal(point, cube, turn, bin_pose[:3])
            wanted = (goal - point) / max(np.max(np.abs(goal[:-1] - point[:-1]) / self._cruise[:-1]), SETTLING_S)
            wanted[-1] = np.clip((goal[-1] - point[-1]) / self._period_s, -self._cruise[-1], self._cruise[-1])
            speed = speed + np.clip(wanted - speed, -self._speeding, self._speeding)
            before = tool_position(point[:6])
            point = np.clip(point + speed * self._period_s, self._lower, self._upper)
            if held:
                cube = cube + tool_position(point[:6]) - before
                if point[-1] > TOUCHING:
                    cube[2] = CUBE_HALF  # it has fallen
            path[i] = point
        return path

    def _goal(self, point: Vector, cube: Vector, turn: float, target: Vector) -> Vector:
        """The target (D,) from the set points `point` (D,)."""
        tool = tool_position(point[:6])
        in_bin = np.abs(cube[:2] - target[:2]).max() < BIN_HALF and cube[2] < target[2] + DROP_HEIGHT + 0.02
        if in_bin:  # let go, then home by way of the air
            if point[-1] < OPEN - 0.004 and np.linalg.norm(tool - cube) < 0.05:
                return np.append(point[:6], OPEN)
            clear = _smooth((tool[2] - CARRY_HEIGHT) / GATE + 1.0)
            up = joints_for(np.array([*tool[:2], CARRY_HEIGHT]), point[5])
            return np.append(clear * HOME[:6] + (1.0 - clear) * up, HOME[-1])
        if _holds(point, cube):  # to the bin
            over = np.array([target[0], target[1], target[2] + DROP_HEIGHT])
            release = np.abs(tool[:2] - target[:2]).max() < 0.02 and tool[2] < over[2] + 0.012
            return np.append(_funnel(tool, over, CARRY_HEIGHT, 0.06, roll=0.0), OPEN if release else SQUEEZE)
        # To the cube, with the smallest roll that aligns the hand with it.
        roll = -_within_quarter(turn - math.atan2(cube[1], cube[0]))
        grasp = _encloses(tool, cube, 0.008) and abs(point[5] - roll) < 0.06
        return np.append(_funnel(tool, cube, cube[2] + HOVER, 0.035, roll), SQUEEZE if grasp else OPEN)


def _funnel(tool: Vector, target: Vector, top: float, radius: float, roll: float) -> Vector:
    """Target joints (6,), so that the tool reaches `target` from above, and rises first if it is low.

    The path is a surface over the table: at the target's height above `target`, at `top` beyond `radius`. Below the
    surface the tool rises before it moves sideways.
    """
    aside = max(math.hypot(*(target[:2] - tool[:2])) - 0.006, 0.0)
    surface = target[2] + (top - target[2]) * _smooth(aside / radius)
    sideways = _smooth((tool[2] - surface) / GATE + 1.0)
    x, y = tool[:2] + sideways * (target[:2] - tool[:2])
    return joints_for(np.array([x, y, surface]), roll)


def _holds(point: Vector, cube: Vector) -> bool:
    return bool(point[-1] < TOUCHING and _encloses(tool_position(point[:6]), cube, 0.018))


def _encloses(tool: Vector, cube: Vector, tolerance: float) -> bool:
    return bool(np.hypot(*(tool[:2] - cube[:2])) < tolerance and abs(tool[2] - cube[2]) < tolerance)


def _turn(quaternion: Vector) -> float:
    """The heading of the cube's edge that is nearest to horizontal."""
    w, x, y, z = quaternion
    edges = np.array(
        [
            (1 - 2 * (y * y + z * z), 2 * (x * y + w * z)),
            (2 * (x * y - w * z), 1 - 2 * (x * x + z * z)),
            (2 * (x * z + w * y), 2 * (y * z - w * x)),
        ]
    )  # (edge, xy)
    level = edges[np.argmax(np.hypot(*edges.T))]
    return math.atan2(level[1], level[0])


def _within_quarter(angle: float) -> float:
    """The equivalent angle of a square, from -45 to 45 degrees."""
    return (angle + math.pi / 4) % (math.pi / 2) - math.pi / 4


def _smooth(fraction: float) -> float:
    """A smooth step from 0 to 1, with slope 0 at both ends."""
    fraction = min(max(fraction, 0.0), 1.0)
    return fraction * fraction * (3.0 - 2.0 * fraction)
