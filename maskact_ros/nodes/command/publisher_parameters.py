"""The action publisher's parameters: their declarations, and the follower's settings and limits that result.

In: the node, which declares them, and the robot. Out: `FollowerSettings` and `Limits`, for the values in force or for
the values of a request that is checked before it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from maskact_ros.control.ladder import FollowerSettings
from maskact_ros.core.limits import Limits
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.common_parameters import POLICY_PATH, ROBOT_FILE
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.params import NodeParameter, ParameterError, declare
from maskact_ros.nodes.ros.receipt import JOINT_STATES_STAMP_SOURCE

_HOUR_S = 3600.0
# With trajectories the loop computes a whole horizon, until the arm is at rest, within one period.
_TRAJECTORY_MOST_HZ, _TRAJECTORY_MOST_S = 100.0, 1.5
PARAMETERS = (
    POLICY_PATH,
    ROBOT_FILE,
    NodeParameter(
        "control_rate_hz",
        100.0,
        f"Commands per second. With command_interface trajectory at most {_TRAJECTORY_MOST_HZ:g}.",
        10.0,
        1000.0,
        unit="Hz",
        changeable=True,
        heading="Commands",
    ),
    NodeParameter(
        "command_interface",
        "position",
        "What is sent. position: one set point each period, for a forward command controller. trajectory: a short "
        "horizon that ends at rest, for a joint trajectory controller.",
        choices=("position", "trajectory"),
    ),
    NodeParameter(
        "limits_from",
        "robot_file",
        "Where the limits come from. robot_file: the robot's description. robot_description: the tighter of that and "
        "the URDF on the topic robot_description; the arm does not move before the URDF has come. "
        "Parameters such as limits.elbow.velocity tighten them further.",
        choices=("robot_file", "robot_description"),
    ),
    NodeParameter("dry_run", False, "Whether the node computes everything but sends no commands."),
    NodeParameter("cpu", -1, "CPU that the command loop is pinned to. -1 does not pin it.", -1, 4095),
    NodeParameter(
        "command_lead_s",
        0.01,
        "Delay from a command to the motion. The plan is sampled this far ahead of now.",
        0.0,
        0.5,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "blend_s", 0.2, "Duration of the hand-over from one plan to the next.", 0.0, 5.0, unit="s", changeable=True
    ),
    NodeParameter(
        "release_on_disable",
        False,
        "Whether the node goes silent after disabling, once the arm is at rest, so that teleoperation can take over. "
        "If false, it repeats the last set point.",
        changeable=True,
    ),
    NodeParameter(
        "max_run_s",
        0.0,
        "Longest motion. After it, the arm is disabled. 0 sets no limit.",
        0.0,
        1e6,
        unit="s",
        changeable=True,
    ),
    replace(JOINT_STATES_STAMP_SOURCE, heading="The stop ladder, from a fresh plan to a fault"),
    NodeParameter(
        "joint_states_timeout_s",
        0.2,
        "Joint states are stale after this time, by receipt or by stamp. Then the arm decelerates and holds.",
        0.01,
        10.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "plan_timeout_s",
        0.5,
        "A chunk is stale this long after its n_action_steps-th point was due; with temporal ensembling, after its "
        "first point was due.",
        0.01,
        60.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "remaining_timeout_s",
        1.0,
        "How long a stale chunk is still followed, at most to its end. Then the arm decelerates and holds.",
        0.0,
        60.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "hold_timeout_s",
        5.0,
        "Holding for longer than this is a fault. It takes ~/reset and ~/enable to move again. Enabling is given up "
        "after the same time without a chunk.",
        0.1,
        _HOUR_S,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "engage_tolerance_s",
        0.25,
        "Largest distance between the arm and the beginning of its first plan. Beyond it, the arm does not engage.",
        0.01,
        60.0,
        unit="s",
        changeable=True,
        heading="Tolerances are times at full joint speed: tolerance [rad or m] = value [s] * velocity limit",
    ),
    NodeParameter(
        "following_tolerance_s",
        0.2,
        "A joint must be where its set point was within this time, or no farther from there than a quarter of the "
        "tolerance. Beyond it is a fault. 0 switches the check off.",
        0.0,
        10.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "clamp_timeout_s",
        1.0,
        "How long a plan may ask for more than the limits allow. Longer is a fault.",
        0.01,
        60.0,
        unit="s",
        changeable=True,
        heading="Limits",
    ),
)


@dataclass(frozen=True)
class JointLimit:
    """A limit of each joint, as the parameter `limits.JOINT.<name>`; the default is the robot's own limit."""

    meaning: str
    unit: str  # {} stands for rad, or for the m of a prismatic joint


LIMITS = {
    "lower": JointLimit("Lowest position. It may be higher than the robot's own, not lower.", "{}"),
    "upper": JointLimit("Highest position. It may be lower than the robot's own, not higher.", "{}"),
    "velocity": JointLimit("Largest velocity, at most the robot's own.", "{}/s"),
    "acceleration": JointLimit("Largest acceleration, at most the robot's own.", "{}/s²"),
}
_SETTINGS = {field.name for field in fields(FollowerSettings)}
_TIGHTEST = 1e-3  # smallest value of a parameter, as a fraction of the robot's own limit


class PublisherParameters:
    """Declares the limit parameters (`limits.<joint>.velocity` and so on), and checks that all parameters fit together.

    `described` are the limits of the URDF; None until one has come.
    """

    def __init__(self, node: ManagedNode, robot: RobotSpec):
        self._node, self._robot = node, robot
        self.described: Limits | None = None
        self._limit_names: dict[str, tuple[str, int]] = {}  # parameter -> entry of Limits, joint
        declared = []
        for i, joint in enumerate(robot.joints):
            for entry in LIMITS:
                value = float(getattr(robot.limits, entry)[i])
                if not np.isfinite(value):
                    continue  # a continuous joint has no end stops
                ends = (joint.lower, joint.upper) if entry in ("lower", "upper") else (value * _TIGHTEST, value)
                name = f"limits.{joint.name}.{entry}"
                self._limit_names[name] = entry, i
                if node.has_parameter(name):
                    continue  # configured before
                about = LIMITS[entry]
                unit = about.unit.format("m" if joint.type == "prismatic" else "rad")
                declared.append(NodeParameter(name, value, about.meaning, *ends, unit=unit, changeable=True))
        declare(node, declared)

    def limits(self, values: Mapping[str, Any]) -> Limits:
        """The limits with these parameters changed."""
        robot = self._robot.limits
        tight = {entry.name: getattr(robot, entry.name).copy() for entry in fields(Limits)}
        for name, (entry, joint) in self._limit_names.items():
            tight[entry][joint] = self._value(name, values)
        limits = robot.tightened(Limits(**tight))
        return limits if self.described is None else limits.tightened(self.described)

    def settings(self, values: Mapping[str, Any]) -> FollowerSettings:
        """The follower's settings with these parameters changed."""
        config = self._node.config_with(values)
        given = {p.name: self._value(p.name, values) for p in PARAMETERS if p.name in _SETTINGS}
        served = config.n_action_steps if config.temporal_ensemble_coeff is None else 1
        settings = FollowerSettings(
            **given,
            fresh_s=served / self._robot.policy_rate_hz + self._value("plan_timeout_s", values),
            lead_s=self._value("command_lead_s", values),
        )
        # In a dry run no arm follows the set points, so following is not checked.
        return replace(settings, following_tolerance_s=0.0) if self._node.get("dry_run") else settings

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise MaskACTError for parameters that do not fit each other."""
        limits = self.limits(values)
        limits.check_ranges(self._robot.joint_names)
        if self._node.get("command_interface") != "trajectory":
            return
        rate_hz = self._value("control_rate_hz", values)
        if rate_hz > _TRAJECTORY_MOST_HZ:
            allowed = f"allowed with command_interface trajectory: up to {_TRAJECTORY_MOST_HZ:g}"
            raise ParameterError(f"control_rate_hz is {rate_hz:g}; {allowed}")
        stopping_s = limits.velocity / limits.acceleration
        if stopping_s.max() > _TRAJECTORY_MOST_S:
            name = self._robot.joint_names[int(np.argmax(stopping_s))]
            raise ParameterError(
                f"{name} would need {stopping_s.max():.1f} s to stop; allowed with command_interface trajectory, whose "
                f"horizons end at rest: up to {_TRAJECTORY_MOST_S:g} s; allow it less velocity or more acceleration"
            )

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        """A parameter's value: from the request `values` if it is there, else the present one."""
        return values.get(name, self._node.get(name))
