"""The action publisher's parameters: what each means, and what they make of the follower's settings and the limits.

In: the node, which declares them, and the robot. Out: `FollowerSettings` and `Limits` for the values in force, or for
those of a request that is to be judged first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
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
PARAMETERS = (
    POLICY_PATH,
    ROBOT_FILE,
    NodeParameter("control_rate_hz", 100.0, "Commands a second.", 10.0, 1000.0, changeable=True),
    NodeParameter(
        "command_interface",
        "position",
        "What is sent: position, a set point each period for a forward command controller; or trajectory, a short "
        "horizon that ends at rest for a joint trajectory controller.",
    ),
    NodeParameter(
        "limits_from",
        "robot_file",
        "Whose limits hold: the robot_file's, or robot_description, the tighter of those and the URDF's on that topic.",
    ),
    NodeParameter("dry_run", False, "Whether everything is done but sending commands."),
    NodeParameter("cpu", -1, "The CPU that the command loop is kept on; -1: any.", -1, 4095),
    NodeParameter(
        "release_on_disable",
        False,
        "Whether to go silent once at rest after disabling, for teleoperation, instead of holding the last set point.",
        changeable=True,
    ),
    NodeParameter(
        "command_lead_s",
        0.01,
        "How far ahead of now the plan is sampled: the time from a command to the motor.",
        0.0,
        0.5,
        changeable=True,
    ),
    NodeParameter("blend_s", 0.2, "How long the hand-over from plan to plan takes.", 0.0, 5.0, changeable=True),
    JOINT_STATES_STAMP_SOURCE,
    NodeParameter(
        "joint_states_timeout_s",
        0.2,
        "Without joint states for so long, by receipt or by stamp, the arm decelerates and holds.",
        0.01,
        10.0,
        changeable=True,
    ),
    NodeParameter(
        "plan_timeout_s",
        0.5,
        "So long after n_action_steps of a chunk have been executed (with ensembling: after its image) it is stale.",
        0.01,
        60.0,
        changeable=True,
    ),
    NodeParameter(
        "remaining_timeout_s",
        1.0,
        "What remains of a stale chunk is followed for so long; then the arm decelerates and holds.",
        0.0,
        60.0,
        changeable=True,
    ),
    NodeParameter(
        "hold_timeout_s",
        5.0,
        "Having held for so long, the arm does not move again by itself: it is a fault. Enabling ends as late, too.",
        0.1,
        _HOUR_S,
        changeable=True,
    ),
    NodeParameter(
        "engage_tolerance_s",
        0.25,
        "How far from the arm a plan may begin to be engaged: what a joint covers in so long at full speed.",
        0.01,
        60.0,
        changeable=True,
    ),
    NodeParameter(
        "following_tolerance_s",
        0.2,
        "How late a joint may be where its set point was, and a quarter of that in distance at full speed; beyond, it "
        "is a fault. 0: not checked.",
        0.0,
        10.0,
        changeable=True,
    ),
    NodeParameter(
        "clamp_timeout_s",
        1.0,
        "For how long a plan may ask for more than the limits give before it is a fault.",
        0.01,
        60.0,
        changeable=True,
    ),
    NodeParameter("max_run_s", 0.0, "After so long of motion it is disabled; 0: never.", 0.0, 1e6, changeable=True),
)
_SETTINGS = {field.name for field in fields(FollowerSettings)}
_TIGHTEST = 1e-3  # of a limit: what a parameter may leave of it
# With trajectories the loop computes each horizon, up to where the arm rests, between two ticks.
_TRAJECTORY_MOST_HZ, _TRAJECTORY_MOST_S = 100.0, 1.5


class PublisherParameters:
    """Tightened limits (`limits.<joint>.velocity` and so on, declared here), settings, and the rules between them.

    `described` are the limits of a URDF, once there is one.
    """

    def __init__(self, node: ManagedNode, robot: RobotSpec):
        self._node, self._robot = node, robot
        self.described: Limits | None = None
        self._limit_names: dict[str, tuple[str, int]] = {}  # parameter -> entry of Limits, joint
        declared = []
        for i, joint in enumerate(robot.joints):
            for entry in ("lower", "upper", "velocity", "acceleration"):
                value = float(getattr(robot.limits, entry)[i])
                if not np.isfinite(value):
                    continue  # a continuous joint has no end stops
                ends = (joint.lower, joint.upper) if entry in ("lower", "upper") else (value * _TIGHTEST, value)
                name = f"limits.{joint.name}.{entry}"
                self._limit_names[name] = entry, i
                if node.has_parameter(name):
                    continue  # configured before
                meaning = f"The {entry} limit of {joint.name}; no looser than the robot's own."
                declared.append(NodeParameter(name, value, meaning, *ends, changeable=True))
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
        # In a dry run no arm follows.
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
        """A parameter's value, once those of a request are set."""
        return values.get(name, self._node.get(name))
