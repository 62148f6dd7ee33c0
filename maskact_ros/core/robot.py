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

from maskact_ros.core.documents import LONGEST_NAME, read_yaml, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.limits import LARGEST, SMALLEST, Limits
from maskact_ros.core.paths import resolve_path

UNKNOWN_ROBOT = "imported"  # the name of a robot whose limits nobody has said
JointType = Literal["revolute", "continuous", "prismatic"]

_JERK_FACTOR = 10.0  # per second: a joint whose jerk nobody has said reaches its full acceleration within 0.1 s
_MOST = 256  # joints, as many as a message may name; and so of cameras and controllers
_LARGEST_IMAGE = 65_535  # pixels a side, as many as JPEG can count


class RobotError(MaskACTError):
    """A robot description that does not fit: the text names the entry, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One joint: its limits in rad, rad/s, rad/s² and rad/s³ (m, m/s, m/s² and m/s³ when prismatic)."""

    name: str
    type: JointType = "revolute"
    lower: float = -math.inf  # a continuous joint has no end stops
    upper: float = math.inf
    velocity: float
    acceleration: float
    jerk: float | None = None  # None: 10 times the acceleration per second
    gripper: bool = False  # it holds things: neither blended nor ensembled, and need not reach its set point


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera: the topic its images come on, and their size in pixels."""

    name: str
    image_topic: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One of several controllers that share the robot's joints: its topic, and its joints in its own order."""

    command_topic: str
    joints: tuple[str, ...]


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
    controllers: tuple[Controller, ...] = ()  # none: whoever moves the joints listens to command_topic

    def __post_init__(self) -> None:
        for entry in ("joints", "cameras", "controllers"):
            many = len(getattr(self, entry))
            _check(many <= _MOST, f"the number of {entry}", many, f"at most {_MOST}")
        _check_unique("joints", [joint.name for joint in self.joints])
        _check_unique("cameras", [camera.name for camera in self.cameras])
        _check(0.1 <= self.policy_rate_hz <= 1000, "policy_rate_hz", self.policy_rate_hz, "a number >= 0.1 and <= 1000")
        for joint in self.joints:
            _check_joint(joint)
        for camera in self.cameras:
            for side in ("width", "height"):
                value = getattr(camera, side)
                allowed = f"an integer >= 1 and <= {_LARGEST_IMAGE}"
                _check(1 <= value <= _LARGEST_IMAGE, f"camera {camera.name}: {side}", value, allowed)
        if self.controllers:
            self._check_controllers()

    def _check_controllers(self) -> None:
        topics = [self.command_topic, *(controller.command_topic for controller in self.controllers)]
        shared = [name for controller in self.controllers for name in controller.joints]
        for controller in self.controllers:
            topic, where = controller.command_topic, f"controller {controller.command_topic}"
            _check(topics.count(topic) == 1, f"{where}: command_topic", topic, "each once, and not the robot's own")
            _check(bool(controller.joints), f"{where}: joints", [], "at least one")
            for name in controller.joints:
                _check(name in self.joint_names, f"{where}: the joint", name, ", ".join(self.joint_names))
                _check(shared.count(name) == 1, f"{where}: the joint", name, "each in one controller, once")
        left_out = [name for name in self.joint_names if name not in shared]
        if left_out:
            raise RobotError(f"controllers: {', '.join(left_out)} is in none; allowed: each joint in one controller")

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
    def limits(self) -> Limits:
        """All limits, from the end stops to the jerk, each (D,)."""
        jerk = [_JERK_FACTOR * joint.acceleration if joint.jerk is None else joint.jerk for joint in self.joints]
        return Limits(self.lower, self.upper, self.velocity, self.acceleration, np.array(jerk))

    @property
    def grippers(self) -> NDArray[np.bool_]:
        """Which joints hold things (D,): those are neither blended nor ensembled."""
        return np.array([joint.gripper for joint in self.joints])

    @property
    def continuous(self) -> NDArray[np.bool_]:
        """Which joints turn without end (D,)."""
        return np.array([joint.type == "continuous" for joint in self.joints])

    @property
    def stopping_s(self) -> float:
        """How long the slowest joint needs to stop from its full speed, its jerk limited."""
        limits = self.limits
        return float((limits.velocity / limits.acceleration + limits.acceleration / limits.jerk).max())

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
        path = resolve_path(path)
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
        controllers = tuple(
            Controller(**_entries(Controller, item, f"controllers[{i}]"))
            for i, item in enumerate(_listed(values, "controllers"))
        )
        return cls(**values | {"joints": joints, "cameras": cameras, "controllers": controllers})

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; `from_dict` gives the same spec back."""
        return _given(self)


def _given(entry: Any) -> dict[str, Any]:
    """Its entries, without those that say no more than their default; a joint's type is worth saying anyway."""
    values: dict[str, Any] = {}
    for field in fields(entry):
        value = getattr(entry, field.name)
        if value == field.default and field.name != "type":
            continue
        if isinstance(value, tuple):
            value = [item if isinstance(item, str) else _given(item) for item in value]
        values[field.name] = value
    return values


def _check(condition: bool, where: str, value: Any, allowed: str) -> None:
    if not condition:
        raise RobotError(f"{where} is {shortened(repr(value))}; allowed: {allowed}")


def _check_joint(joint: Joint) -> None:
    where = f"joint {joint.name}"
    if joint.type == "continuous":
        unlimited = joint.lower == -math.inf and joint.upper == math.inf
        _check(unlimited, f"{where}: lower and upper", (joint.lower, joint.upper), "none on a continuous joint")
    else:
        ordered = -LARGEST <= joint.lower < joint.upper <= LARGEST
        _check(ordered, f"{where}: lower and upper", (joint.lower, joint.upper), "two numbers, lower < upper")
    for limit in ("velocity", "acceleration"):
        value = getattr(joint, limit)
        allowed = f"a number >= {SMALLEST:g} and <= {LARGEST:g}"
        _check(SMALLEST <= value <= LARGEST, f"{where}: {limit}", value, allowed)
    if joint.jerk is not None:
        largest = _JERK_FACTOR * LARGEST
        allowed = f"a number >= {SMALLEST:g} and <= {largest:g}"
        _check(SMALLEST <= joint.jerk <= largest, f"{where}: jerk", joint.jerk, allowed)


def _check_unique(where: str, names: Sequence[str]) -> None:
    _check(bool(names), where, list(names), "at least one")
    for name in names:
        _check(names.count(name) == 1, where, name, "each name once")


def _listed(values: Mapping[str, Any], key: str) -> list[Any]:
    listed = values.get(key, [])
    _check(isinstance(listed, list), key, listed, "a list")
    return list(listed)


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
            sound = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME
            _check(sound, label, value, f"a text of up to {LONGEST_NAME} letters")
        elif entry.type == "int":
            _check(isinstance(value, int) and not isinstance(value, bool), label, value, "an integer")
        elif entry.type == "bool":
            _check(isinstance(value, bool), label, value, "true or false")
        elif entry.type in ("float", "float | None"):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _check(number and abs(value) < 1e300, label, value, "a finite number")
            value = float(value)
        elif entry.type == "tuple[str, ...]":
            _check(isinstance(value, list) and all(isinstance(i, str) for i in value), label, value, "a list of names")
            value = tuple(value)
        elif entry.type == "JointType":
            _check(value in get_args(JointType), label, value, "one of " + ", ".join(get_args(JointType)))
        checked[name] = value
    return checked
