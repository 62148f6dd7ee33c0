"""Limits from a URDF: what `<limit>` and `<safety_controller>` say of the robot's joints, each found by its name.

In: XML that anybody may have published, and the `RobotSpec`. Out: the robot's limits, tightened by the URDF's. A URDF
knows no acceleration and no jerk: the robot's own stay. Streamed through expat, with neither tree nor entities.
"""

from __future__ import annotations

import math
import re
import xml.parsers.expat as expat
from collections.abc import Mapping

import numpy as np

from maskact_ros.core.documents import shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.limits import SMALLEST, Limits
from maskact_ros.core.robot import Joint, RobotSpec

_LARGEST_TEXT = 16_000_000  # characters; a humanoid's is a hundredth of that
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOVING = ("revolute", "continuous", "prismatic")

Attributes = Mapping[str, str]


class UrdfError(MaskACTError):
    """A URDF that gives no limits: the text names the joint, the attribute, its value and what is allowed."""


def limits_from_urdf(text: str, robot: RobotSpec) -> Limits:
    """The robot's limits, tightened by those of a URDF's text; the tightest of robot, hard and soft limits wins.

    Raises:
        UrdfError: no sound XML of a robot, or a joint of the robot that it lacks, calls otherwise or gives no limits.
        LimitsError: robot and URDF together leave a joint no range.
    """
    found = _Reader(robot.joint_names).read(text)
    said = [_limits(joint, found.get(joint.name)) for joint in robot.joints]
    lower, upper, velocity = (np.array(values) for values in zip(*said, strict=True))
    unsaid = np.full(len(said), np.inf)
    tightened = robot.limits.tightened(Limits(lower, upper, velocity, unsaid, unsaid))
    tightened.check_ranges(robot.joint_names)
    return tightened


class _Reader:
    """Gathers the elements of the joints that are asked for; other joints, and what else there is, pass by."""

    def __init__(self, names: tuple[str, ...]):
        self._names = names
        self._depth = 0
        self._joint = ""  # the joint whose element is open, if it is one of ours
        self._found: dict[str, dict[str, Attributes]] = {}  # joint: element: attributes

    def read(self, text: str) -> dict[str, dict[str, Attributes]]:
        """By joint, the attributes of the elements joint, limit and safety_controller; raises UrdfError."""
        if len(text) > _LARGEST_TEXT:
            raise UrdfError(f"the URDF has {len(text)} characters; allowed: at most {_LARGEST_TEXT}")
        parser = expat.ParserCreate("utf-8")  # whatever its own declaration says, for the text is decoded already
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse_doctype  # without one, no entity can be declared
        try:
            parser.Parse(text.encode("utf-8"), True)
        except (expat.ExpatError, UnicodeEncodeError) as error:
            raise UrdfError(f"the URDF is not XML ({error})") from None
        return self._found

    def _refuse_doctype(self, *_: object) -> None:
        raise UrdfError("the URDF has a DOCTYPE; allowed: none, as it could declare entities")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and tag != "robot":
            raise UrdfError(f"the URDF's first element is {shortened(repr(tag))}; allowed: 'robot'")
        # The elements transmission, gazebo and ros2_control have joints of their own, further down.
        if self._depth == 2 and tag == "joint" and attributes.get("name") in self._names:
            self._joint = attributes["name"]
            if self._joint in self._found:
                raise UrdfError(f"joint {self._joint}: the URDF has it more than once; allowed: once")
            self._found[self._joint] = {"joint": attributes}
        elif self._depth == 3 and self._joint and tag in ("limit", "safety_controller"):
            if tag in self._found[self._joint]:
                raise UrdfError(f"joint {self._joint}: the URDF gives it <{tag}> more than once; allowed: once")
            self._found[self._joint][tag] = attributes

    def _end(self, _: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._joint = ""


def _limits(joint: Joint, found: dict[str, Attributes] | None) -> tuple[float, float, float]:
    """Lower, upper and velocity that the URDF allows the joint; infinite where it says nothing."""
    if found is None:
        raise UrdfError(f"joint {joint.name}: the URDF has none of that name; allowed: all joints of the robot")
    kind = found["joint"].get("type", "")
    if kind not in _MOVING:
        raise UrdfError(f"joint {joint.name}: the URDF says {shortened(repr(kind))}; allowed: {', '.join(_MOVING)}")
    turns, endless = kind != "prismatic", joint.type == "continuous"
    if turns != (joint.type != "prismatic") or (endless and kind != "continuous"):
        raise UrdfError(f"joint {joint.name}: the robot says {joint.type}, the URDF {kind}; allowed: the same of both")
    lower, upper, velocity = -math.inf, math.inf, math.inf
    if "limit" in found:
        velocity = _number(joint, found["limit"], "velocity")
        if velocity < SMALLEST:
            raise UrdfError(f"joint {joint.name}: the URDF's velocity is {velocity:g}; allowed: >= {SMALLEST:g}")
    if kind == "continuous":
        return lower, upper, velocity
    if "limit" not in found:
        raise UrdfError(f"joint {joint.name}: the URDF gives it no <limit>, which a {kind} joint must have")
    lower, upper = (_number(joint, found["limit"], side, 0.0) for side in ("lower", "upper"))  # 0 as URDF defines it
    if lower > upper:
        raise UrdfError(
            f"joint {joint.name}: the URDF's lower is {lower:g} and upper {upper:g}; allowed: lower < upper"
        )
    soft = found.get("safety_controller", {})
    return (
        max(lower, _number(joint, soft, "soft_lower_limit", lower)),
        min(upper, _number(joint, soft, "soft_upper_limit", upper)),
        velocity,
    )


def _number(joint: Joint, attributes: Attributes, name: str, default: float | None = None) -> float:
    text = attributes.get(name)
    if text is None:
        if default is None:
            raise UrdfError(f"joint {joint.name}: the URDF's {name} is missing; allowed: a finite number")
        return default
    value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise UrdfError(f"joint {joint.name}: the URDF's {name} is {shortened(repr(text))}; allowed: a finite number")
    return value
