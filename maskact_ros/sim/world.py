"""The world: the physics of arm, cube and bin, its sensors, and the state of the episode.

In: a seed, then joint set points. Out: joint positions and velocities, poses, and snapshots for a renderer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.look import NO_SHIFT, Look, draw_look, parse_shifts
from maskact_ros.sim.scene import BIN_HALF, BIN_HEIGHT, CUBE_HALF, TIMESTEP_S, build

HOME = np.array([0.0, -0.40, 1.90, 1.35, 0.35, 0.0, 0.03])  # hand aside, so that the camera sees the table

# Ranges of the cube's and the bin's places in metres, in the arm's frame; of the cube's angle to the arm's direction.
CUBE_X, CUBE_Y, CUBE_TURN = (0.22, 0.38), (-0.24, 0.06), 0.5
BIN_X, BIN_Y = (0.23, 0.27), (0.24, 0.28)

# Standard deviations of the joint sensors in rad and rad/s; the gripper's are a fifth of that, in m and m/s.
POSITION_NOISE, VELOCITY_NOISE = 2e-4, 5e-3

_POSES, _SENSORS = 101, 102  # streams of random numbers, different from the shifts'


@dataclass(frozen=True, eq=False)
class Measurement:
    """The joint sensors' values: positions (D,) and velocities (D,)."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that a renderer needs of one moment; another thread may use it."""

    seed: int
    steps: int  # physics steps since the reset
    positions: NDArray[np.float64]  # every coordinate of the physics model
    bin_position: NDArray[np.float64]  # (3,)
    look: Look


@dataclass(frozen=True)
class Episode:
    """The state of the episode; `seconds` stop at success."""

    number: int
    seed: int
    success: bool
    seconds: float


class World:
    """The simulated robot at its table. The first episode begins at construction; `reset` begins another one.

    Raises:
        SimError: the robot is not the simulated arm, or a shift is unknown.
    """

    def __init__(self, robot: RobotSpec, *, seed: int = 0, shift: str = NO_SHIFT, noise: bool = True) -> None:
        self._shifts = parse_shifts(shift)
        self._model = build(robot)
        self._data = mujoco.MjData(self._model)
        self._noise = noise
        joints = [self._model.joint(name) for name in robot.joint_names]
        self._at = np.array([joint.qposadr[0] for joint in joints])
        self._v_at = np.array([joint.dofadr[0] for joint in joints])
        self._mirror_at = self._model.joint(f"{robot.joint_names[-1]}_mirror").qposadr[0]
        self._cube = self._model.body("cube").id
        self._is_robot = self._model.body_rootid[self._model.geom_bodyid] == self._model.body("base_link").id
        self._is_cube = self._model.geom_bodyid == self._cube
        self._slew = robot.velocity * TIMESTEP_S  # (D,) how far a drive's set point moves in a step
        self._lead = self._model.actuator_forcerange[:, 1] / self._model.actuator_gainprm[:, 0]  # (D,)
        self._number = 0
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`: the arm at home, the cube and the bin where the seed puts them."""
        rng = np.random.default_rng([seed, _POSES])
        x, y = rng.uniform(*CUBE_X), rng.uniform(*CUBE_Y)
        yaw = math.atan2(y, x) + rng.uniform(-CUBE_TURN, CUBE_TURN)
        bin_x, bin_y = rng.uniform(*BIN_X), rng.uniform(*BIN_Y)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[self._at] = HOME
        self._data.qpos[self._mirror_at] = HOME[-1]
        self._data.joint("cube").qpos[:] = (x, y, CUBE_HALF, math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
        self._data.mocap_pos[0] = (bin_x, bin_y, 0.0)
        self._data.ctrl[:] = HOME
        mujoco.mj_forward(self._model, self._data)
        self._sensors = np.random.default_rng([seed, _SENSORS])
        self._look = draw_look(self._shifts, seed, keep_clear=((x, y), (bin_x, bin_y)))
        self._number += 1
        self._seed, self._steps = seed, 0
        self._success_s: float | None = None

    def step(self, command: NDArray[np.float64], steps: int = 1) -> None:
        """Let `steps` of TIMESTEP_S pass under the set points `command` (D,).

        As with a real drive, a joint follows a step of its set point at its velocity limit. A blocked joint limits
        the distance to its set point, so that it does not jump when it is free again.
        """
        assert np.isfinite(command).all(), "the caller refuses commands that are not finite"
        data = self._data
        for _ in range(steps):
            here = data.qpos[self._at]
            reachable = np.clip(data.ctrl, here - self._lead, here + self._lead)
            data.ctrl[:] = reachable + np.clip(command - reachable, -self._slew, self._slew)
            mujoco.mj_step(self._model, data)
        self._steps += steps
        if self._success_s is None and self.success():
            self._success_s = self.time_s

    @property
    def time_s(self) -> float:
        """Simulated seconds since the reset."""
        return self._steps * TIMESTEP_S

    @property
    def joint_positions(self) -> NDArray[np.float64]:
        """True positions (D,)."""
        return np.array(self._data.qpos[self._at])

    @property
    def joint_velocities(self) -> NDArray[np.float64]:
        """True velocities (D,)."""
        return np.array(self._data.qvel[self._v_at])

    def measure(self) -> Measurement:
        """The joint sensors' values now; each call draws new noise."""
        positions, velocities = self.joint_positions, self.joint_velocities
        if self._noise:
            scale = np.where(np.arange(len(positions)) < len(positions) - 1, 1.0, 0.2)
            positions += self._sensors.normal(0.0, POSITION_NOISE, len(positions)) * scale
            velocities += self._sensors.normal(0.0, VELOCITY_NOISE, len(velocities)) * scale
        return Measurement(positions=positions, velocities=velocities)

    @property
    def object_pose(self) -> NDArray[np.float64]:
        """The cube's pose (7,): x, y, z and the quaternion w, x, y, z."""
        return np.array(self._data.joint("cube").qpos)

    @property
    def bin_pose(self) -> NDArray[np.float64]:
        """The bin's pose (7,): x, y, z of the middle of its floor's underside, and the quaternion w, x, y, z."""
        return np.concatenate([self._data.mocap_pos[0], self._data.mocap_quat[0]])

    def success(self) -> bool:
        """Whether the cube is at rest in the bin now, and the hand does not touch it."""
        position = self.object_pose[:3]
        inside = np.abs(position[:2] - self.bin_pose[:2]).max() < BIN_HALF and position[2] < BIN_HEIGHT
        if not inside or np.abs(self._data.joint("cube").qvel[:3]).max() > 0.01:
            return False
        pairs = self._data.contact.geom  # (contacts, 2)
        return not np.any(self._is_cube[pairs].any(axis=1) & self._is_robot[pairs].any(axis=1))

    @property
    def episode(self) -> Episode:
        """The episode so far; a success remains a success."""
        succeeded = self._success_s is not None
        seconds = self.time_s if self._success_s is None else self._success_s
        return Episode(number=self._number, seed=self._seed, success=succeeded, seconds=round(seconds, 3))

    def snapshot(self) -> Snapshot:
        """The present moment, for a renderer."""
        return Snapshot(
            seed=self._seed,
            steps=self._steps,
            positions=np.array(self._data.qpos),
            bin_position=np.array(self._data.mocap_pos[0]),
            look=self._look,
        )

    def place_arm(self, positions: NDArray[np.float64]) -> None:
        """Put the arm at joint positions (D,), at rest, and set its drives' set points to them."""
        self._data.qpos[self._at] = self._data.ctrl[:] = positions
        self._data.qpos[self._mirror_at] = positions[-1]
        self._data.qvel[self._v_at] = 0.0
        mujoco.mj_forward(self._model, self._data)

    def place_object(self, pose: NDArray[np.float64]) -> None:
        """Put the cube at `pose` (7,), at rest, as a person's hand would."""
        self._data.joint("cube").qpos[:] = pose
        self._data.joint("cube").qvel[:] = 0.0
