"""`RobotSpec`: joints with their limits, cameras, topics and policy rate; one description from bag to node.

In: `robot.yaml`, or the copy of it that a checkpoint carries. Out: a frozen spec, and every difference between two.
Units are radians and radians per second (per second squared) for turning joints, metres for prismatic ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from maskact_ros.documents import read_yaml, shortened
from maskact_ros.errors import MaskACTError
from maskact_ros.paths import given

UNKNOWN_ROBOT = "imported"  # the name of a robot whose limits nobody has said
JointType = Literal["revolute", "continuous", "prismatic"]

# Within these, in rad and m, per s and per s², double precision has room for whatever is computed from limits.
_SMALLEST, _LARGEST = 1e-6, 1e6
_LARGEST_IMAGE = 65_535  # pixels a side, as many as JPEG can count


class RobotError(MaskACTError):
    """A robot description that does not fit: the text names the entry, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint: its limits in rad, rad/s and rad/s² (m, m/s and m/s² when prismatic)."""

    name: str
    type: JointType = "revolute"
    lower: float = -math.inf  # a continuous joint has no end stops
    upper: float = math.inf
    velocity: float
    acceleration: float


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera: the topic its images come on, and their size in pixels."""

    name: str
    image_topic: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """A robot as the policy knows it.

    Raises:
        RobotError: an entry is missing, unknown, of a wrong type or out of range.
    """

    name: str
    policy_rate_hz: float  # the rate of a chunk's points
    joint_states_topic: str
    command_topic: str
    joints: tuple[Joint, ...]
    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        _check_unique("joints", [joint.name for joint in self.joints])
        _check_unique("cameras", [camera.name for camera in self.cameras])
        _check(0.1 <= self.policy_rate_hz <= 1000, "policy_rate_hz", self.policy_rate_hz, "a number >= 0.1 and <= 1000")
        for joint in self.joints:
            where = f"joint {joint.name}"
            if joint.type == "continuous":
                unlimited = joint.lower == -math.inf and joint.upper == math.inf
                _check(unlimited, f"{where}: lower and upper", (joint.lower, joint.upper), "none on a continuous joint")
            else:
                ordered = -_LARGEST <= joint.lower < joint.upper <= _LARGEST
                _check(ordered, f"{where}: lower and upper", (joint.lower, joint.upper), "two numbers, lower < upper")
            for limit in ("velocity", "acceleration"):
                value = getattr(joint, limit)
                allowed = f"a number >= {_SMALLEST:g} and <= {_LARGEST:g}"
                _check(_SMALLEST <= value <= _LARGEST, f"{where}: {limit}", value, allowed)
        for camera in self.cameras:
            for side in ("width", "height"):
                value = getattr(camera, side)
                allowed = f"an integer >= 1 and <= {_LARGEST_IMAGE}"
                _check(1 <= value <= _LARGEST_IMAGE, f"camera {camera.name}: {side}", value, allowed)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in the order of the policy's state and action vectors."""
        return tuple(joint.name for joint in self.joints)

    @property
    def policy_period_ns(self) -> int:
        """Time between two points of a chunk."""
        return round(1e9 / self.policy_rate_hz)

    @property
    def lower(self) -> NDArray[np.float64]:
        """Lower position limits (D,); -inf on a continuous joint."""
        return np.array([joint.lower for joint in self.joints])

    @property
    def upper(self) -> NDArray[np.float64]:
        """Upper position limits (D,); inf on a continuous joint."""
        return np.array([joint.upper for joint in self.joints])

    @property
    def velocity(self) -> NDArray[np.float64]:
        """Velocity limits (D,)."""
        return np.array([joint.velocity for joint in self.joints])

    @property
    def acceleration(self) -> NDArray[np.float64]:
        """Acceleration limits (D,)."""
        return np.array([joint.acceleration for joint in self.joints])

    @property
    def stopping_s(self) -> float:
        """How long the slowest joint needs to stop from its full speed."""
        return max(joint.velocity / joint.acceleration for joint in self.joints)

    @property
    def only_camera(self) -> Camera:
        """The robot's camera; raises RobotError when there are several, which the nodes do not support yet."""
        if len(self.cameras) != 1:
            names = ", ".join(camera.name for camera in self.cameras[1:])
            raise RobotError(
                f"robot {self.name}: cameras beyond {self.cameras[0].name} are not supported yet: remove {names}"
            )
        return self.cameras[0]

    def differences(self, other: RobotSpec, *, mine: str = "robot", theirs: str = "checkpoint") -> list[str]:
        """What would make a policy of `other` wrong on this robot, a sentence each; empty when nothing would."""
        found = []
        if self.joint_names != other.joint_names:
            found.append(f"joints: {mine} has {list(self.joint_names)}, {theirs} {list(other.joint_names)}")
        else:
            for joint, counterpart in zip(self.joints, other.joints, strict=True):
                if joint.type != counterpart.type:
                    found.append(f"joint {joint.name}: {mine} says {joint.type}, {theirs} {counterpart.type}")
        if self.policy_rate_hz != other.policy_rate_hz:
            found.append(f"policy_rate_hz: {mine} has {self.policy_rate_hz:g}, {theirs} {other.policy_rate_hz:g}")
        cameras = [f"{c.name} {c.width}x{c.height}" for c in self.cameras]
        counterparts = [f"{c.name} {c.width}x{c.height}" for c in other.cameras]
        if cameras != counterparts:
            found.append(f"cameras: {mine} has {', '.join(cameras)}, {theirs} {', '.join(counterparts)}")
        return found

    @classmethod
    def from_yaml(cls, path: str | Path) -> RobotSpec:
        """Read `robot.yaml`; raises MaskACTError that names the file."""
        path = given(path)
        values = read_yaml(path)
        try:
            return cls.from_dict(values)
        except RobotError as error:
            raise RobotError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, values: Any) -> RobotSpec:
        """Build a spec from YAML's or JSON's types; raises RobotError."""
        values = _entries(cls, values, "robot")
        joints = tuple(
            Joint(**_entries(Joint, item, f"joints[{i}]")) for i, item in enumerate(_listed(values, "joints"))
        )
        cameras = tuple(
            Camera(**_entries(Camera, item, f"cameras[{i}]")) for i, item in enumerate(_listed(values, "cameras"))
        )
        return cls(**values | {"joints": joints, "cameras": cameras})

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; `from_dict` gives the same spec back."""
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "joints": [_given(joint) for joint in self.joints],
            "cameras": [_given(camera) for camera in self.cameras],
        }


def _given(entry: Joint | Camera) -> dict[str, Any]:
    values = {f.name: getattr(entry, f.name) for f in fields(entry)}
    return {key: value for key, value in values.items() if value not in (-math.inf, math.inf)}


def _check(condition: bool, where: str, value: Any, allowed: str) -> None:
    if not condition:
        raise RobotError(f"{where} is {shortened(repr(value))}; allowed: {allowed}")


def _check_unique(where: str, names: Sequence[str]) -> None:
    _check(bool(names), where, list(names), "at least one")
    for name in names:
        _check(names.count(name) == 1, where, name, "each name once")


def _listed(values: Mapping[str, Any], key: str) -> list[Any]:
    _check(isinstance(values[key], list), key, values[key], "a list")
    return list(values[key])


def _entries(kind: type, values: Any, where: str) -> dict[str, Any]:
    """The keyword arguments of dataclass `kind`, each checked against its annotated type."""
    _check(isinstance(values, Mapping), where, values, "a mapping of " + ", ".join(f.name for f in fields(kind)))
    declared = {f.name: f for f in fields(kind)}
    for key in values:
        _check(key in declared, f"{where}: the entry", key, ", ".join(declared))
    checked: dict[str, Any] = {}
    for name, entry in declared.items():
        if name not in values:
            required = entry.default is entry.default_factory  # both MISSING
            if required:
                raise RobotError(f"{where}: {name} is missing")
            continue
        value = values[name]
        label = f"{where}: {name}"
        if entry.type == "str":
            _check(isinstance(value, str) and value != "", label, value, "a text")
        elif entry.type == "int":
            _check(isinstance(value, int) and not isinstance(value, bool), label, value, "an integer")
        elif entry.type == "float":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _check(number and abs(value) < 1e300, label, value, "a finite number")
            value = float(value)
        elif entry.type == "JointType":
            _check(value in get_args(JointType), label, value, "one of " + ", ".join(get_args(JointType)))
        checked[name] = value
    return checked
