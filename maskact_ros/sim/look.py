"""The scene's look: colours, textures, light, distractors and camera pose, and the named shifts that change it.

In: a seed, shifts such as `background+light`, and the places of cube and bin. Out: a frozen `Look`, which is applied to
a model. A look does not change the physics, so the same seed is the same task under every shift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import mujoco
import numpy as np

from maskact_ros.sim import SimError
from maskact_ros.sim.scene import CAMERA_POSITION, DISTRACTORS, TABLE_MATERIALS

NO_SHIFT = "none"

Rgb = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Distractor:
    """One distractor on the table: its place, its angle about the vertical, its colour."""

    at: Point
    yaw: float
    rgb: Rgb


@dataclass(frozen=True)
class Look:
    """All that a camera sees but the task does not depend on."""

    table_material: str = "plain"
    table_rgb: Rgb = (0.78, 0.75, 0.70)
    floor_rgb: Rgb = (0.47, 0.53, 0.57)
    cube_rgb: Rgb = (0.90, 0.33, 0.12)
    light_direction: tuple[float, float, float] = (-0.35, -0.45, -0.82)
    light_rgb: Rgb = (0.55, 0.55, 0.53)
    ambient_rgb: Rgb = (0.38, 0.38, 0.38)
    camera_position: tuple[float, float, float] = CAMERA_POSITION
    camera_turn: tuple[float, float, float] = (0.0, 0.0, 0.0)  # a rotation vector in the camera's own frame
    distractors: tuple[Distractor, ...] = ()

    def paint(self, model: mujoco.MjModel, pristine: mujoco.MjModel) -> None:
        """Apply this look to `model`; `pristine` is the same model without a look."""
        model.geom("table").matid = model.material(self.table_material).id
        model.geom("table").rgba[:3] = self.table_rgb
        model.geom("floor").rgba[:3] = self.floor_rgb
        model.geom("cube").rgba[:3] = self.cube_rgb
        model.light("lamp").dir[:] = np.array(self.light_direction) / np.linalg.norm(self.light_direction)
        model.light("lamp").diffuse[:] = self.light_rgb
        model.vis.headlight.ambient[:] = self.ambient_rgb
        turn = np.zeros(4)
        angle = float(np.linalg.norm(self.camera_turn))
        mujoco.mju_axisAngle2Quat(turn, np.array(self.camera_turn) / (angle or 1.0), angle)
        model.cam_pos[0] = self.camera_position
        mujoco.mju_mulQuat(model.cam_quat[0], pristine.cam_quat[0], turn)
        for index in range(DISTRACTORS):
            geom = model.geom(f"distractor_{index}")
            geom.group = pristine.geom(geom.name).group  # of a group that is not drawn
            if index < len(self.distractors):
                distractor = self.distractors[index]
                geom.group = 0
                geom.pos[:2] = distractor.at
                geom.quat[:] = (math.cos(distractor.yaw / 2), 0.0, 0.0, math.sin(distractor.yaw / 2))
                geom.rgba[:3] = distractor.rgb


def parse_shifts(text: str) -> tuple[str, ...]:
    """The names in a text such as `background+light`; `none` has no names. Raises SimError for an unknown name."""
    names = () if text == NO_SHIFT else tuple(text.split("+"))
    for name in names:
        if name not in SHIFTS:
            allowed = ", ".join((NO_SHIFT, *SHIFTS))
            raise SimError(f"shift is {text!r}; allowed: {allowed}, or several of them, such as background+light")
    return names


def draw_look(shifts: tuple[str, ...], seed: int, keep_clear: tuple[Point, ...]) -> Look:
    """The look of an episode; distractors stay away from the points `keep_clear`."""
    look = Look()
    for name in shifts:
        # Each shift has its own stream of random numbers: a combination changes none of its shifts.
        rng = np.random.default_rng([seed, list(SHIFTS).index(name)])
        look = SHIFTS[name](look, rng, keep_clear)
    return look


def _background(look: Look, rng: np.random.Generator, keep_clear: tuple[Point, ...]) -> Look:
    return replace(
        look,
        table_material=str(rng.choice(TABLE_MATERIALS)),
        table_rgb=_pick(rng, (0.45, 0.62, 0.55), (0.42, 0.36, 0.30), (0.35, 0.38, 0.42), (0.55, 0.62, 0.75)),
        floor_rgb=_pick(rng, (0.25, 0.25, 0.28), (0.62, 0.52, 0.42), (0.72, 0.74, 0.76), (0.35, 0.45, 0.38)),
    )


def _light(look: Look, rng: np.random.Generator, keep_clear: tuple[Point, ...]) -> Look:
    azimuth, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(0.5, 1.2)
    level = math.cos(elevation)
    tint = np.array(_pick(rng, (1.0, 0.72, 0.45), (0.55, 0.75, 1.0), (0.65, 1.0, 0.65), (1.0, 0.60, 0.85)))
    light, ambient = rng.uniform(0.4, 0.8) * tint, rng.uniform(0.2, 0.4) * tint
    return replace(
        look,
        light_direction=(-level * math.cos(azimuth), -level * math.sin(azimuth), -math.sin(elevation)),
        light_rgb=_triple(light),
        ambient_rgb=_triple(ambient),
    )


def _object(look: Look, rng: np.random.Generator, keep_clear: tuple[Point, ...]) -> Look:
    return replace(
        look, cube_rgb=_pick(rng, (0.20, 0.60, 0.25), (0.90, 0.76, 0.15), (0.50, 0.25, 0.60), (0.95, 0.95, 0.95))
    )


def _distractors(look: Look, rng: np.random.Generator, keep_clear: tuple[Point, ...]) -> Look:
    taken = list(keep_clear)
    placed: list[Distractor] = []
    while len(placed) < DISTRACTORS:
        at = (float(rng.uniform(0.15, 0.44)), float(rng.uniform(-0.38, 0.42)))
        if all(math.dist(at, other) > 0.12 for other in taken):
            taken.append(at)
            rgb = _pick(rng, (0.85, 0.55, 0.68), (0.15, 0.50, 0.50), (0.42, 0.28, 0.18), (0.15, 0.15, 0.16))
            placed.append(Distractor(at=at, yaw=float(rng.uniform(0, math.pi)), rgb=rgb))
    return replace(look, distractors=tuple(placed))


def _camera(look: Look, rng: np.random.Generator, keep_clear: tuple[Point, ...]) -> Look:
    return replace(
        look,
        camera_position=_triple(np.array(look.camera_position) + rng.uniform(-0.03, 0.03, 3)),
        camera_turn=_triple(rng.uniform(-0.05, 0.05, 3)),
    )


def _pick(rng: np.random.Generator, *options: Rgb) -> Rgb:
    return options[rng.integers(len(options))]


def _triple(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return (x, y, z)


Shift = Callable[[Look, np.random.Generator, tuple[Point, ...]], Look]
SHIFTS: Mapping[str, Shift] = MappingProxyType(
    {"background": _background, "light": _light, "object": _object, "distractors": _distractors, "camera": _camera}
)
