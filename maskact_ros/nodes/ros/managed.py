"""The base class of our nodes: parameters, lifecycle and diagnostics; `node_process` runs one.

A node implements `configure`, `activate`, `deactivate` and `clean_up`. A user's mistake in any of them becomes one
sentence in the log and a refused transition, never a stack trace.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import PARAMETERS, MaskACTConfig, unknown_key
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.robot import UNKNOWN_ROBOT, RobotError, RobotSpec
from maskact_ros.nodes.ros.clock_guard import guard_clock
from maskact_ros.nodes.ros.common_parameters import AUTOSTART
from maskact_ros.nodes.ros.diagnostics import Diagnostics
from maskact_ros.nodes.ros.parameter_service import RefusingParameterService
from maskact_ros.nodes.ros.params import (
    NodeParameter,
    ParameterError,
    carried_over,
    checked,
    declare,
    declare_spec,
    effective_spec,
    holds,
    is_spec,
    refuse_unknown,
    scope,
    spec_values,
)


class ManagedNode(LifecycleNode):  # type: ignore[misc]
    """A lifecycle node with declared parameters and diagnostics; raises ParameterError for a wrong override."""

    CHANGEABLE_SPEC: Collection[str] = ()  # the specification's parameters that the node can change while it runs
    DIAGNOSTICS: type[Diagnostics] = Diagnostics
    STRANGERS_SHARE = 1.0  # largest share of a thread's time for one topic; < 1 where other threads need the time

    def __init__(self, name: str, parameters: Sequence[NodeParameter]):
        try:
            super().__init__(name, start_parameter_services=False)
        except InvalidParameterTypeException as error:  # the one parameter that rclpy declares itself
            raise ParameterError(f"use_sim_time is of a wrong type; allowed: true or false ({error})") from None
        self.finalized = False
        self._configured = False
        self._set_since_start: set[str] = set()
        self._parameter_service = RefusingParameterService(self)
        self._declared = (AUTOSTART, *parameters)
        declare(self, self._declared)
        self.diagnostics = self.DIAGNOSTICS(self)
        self.diagnostics.value("state", "unconfigured")
        guard_clock(self, self.diagnostics)

    # A node overrides these. Each may raise MaskACTError.
    def configure(self) -> None:
        """Load, check and warm up; create publishers and subscriptions."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop working."""

    def clean_up(self) -> None:
        """Destroy what `configure` created; also called after a configure that failed half-way."""

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Apply the changed parameters of one request, all or, by raising MaskACTError, none; called while configured.

        Each value is of its type and in its range, and the specification's fit each other: see `config_with`.
        """

    def leave(self) -> None:
        """The process is about to end: come to rest."""

    @property
    def may_end(self) -> bool:
        """Whether this node may end when a bringup ends: the action publisher ends first, with the arm at rest."""
        return bool(self.count_publishers("state") == 0)  # the action publisher has ended

    @property
    def crash(self) -> BaseException | None:
        """The exception of a bug that ended one of the node's threads, or None; the process ends with it."""
        return None

    def get(self, name: str) -> Any:
        """A parameter's value."""
        return self.get_parameter(name).value

    def create_steady_timer(self, period_s: float, callback: Any) -> Timer:
        """A timer on the steady clock: neither simulated time nor a correction of the time can stop it."""
        return self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy_entities(self, *attributes: str) -> None:
        """Destroy the publishers, subscriptions and services in these attributes, if `configure` has created them."""
        destroy = {
            Publisher: self.destroy_lifecycle_publisher,
            Subscription: self.destroy_subscription,
            Service: self.destroy_service,
        }
        for attribute in attributes:
            held = self.__dict__.pop(attribute, [])
            for entity in held if isinstance(held, list) else [held]:
                next(how for kind, how in destroy.items() if isinstance(entity, kind))(entity)

    def policy_and_robot(self, *, also: Collection[str] = ()) -> tuple[CheckpointInfo, MaskACTConfig, RobotSpec]:
        """The checkpoint, the configuration in effect, and the robot, which must match the checkpoint's.

        `also` names groups of parameters that the node declares later, when it knows the robot.

        Raises:
            MaskACTError: no checkpoint, a parameter that contradicts it, or another robot (with every difference).
        """
        refuse_unknown(self, also=[*PARAMETERS, *also])  # first, so that a misspelled policy_path is named as such
        if not self.get("policy_path"):
            raise ParameterError("policy_path is not set; allowed: the folder of a checkpoint")
        info = CheckpointInfo.read(resolve_path(self.get("policy_path")))
        config = self._declare_spec(info.config, [*self._parameter_overrides, *self._set_since_start])
        refuse_unknown(self, also=also)
        return info, config, self._robot_of(info)

    def check_policy(self, path: str, robot: RobotSpec) -> CheckpointInfo:
        """Read the checkpoint of another policy, to run on the same robot in place of the present one.

        Raises:
            MaskACTError: it is no checkpoint, for another robot, or contradicts the node's parameters.
        """
        if not path:
            raise ParameterError("policy_path is ''; allowed: the folder of a checkpoint")
        info = CheckpointInfo.read(resolve_path(path))
        differences = robot.differences(self._robot_of(info), theirs="new policy")
        if differences:
            raise RobotError(f"the checkpoint {info.folder} is for another robot: " + "; ".join(differences))
        fixed = {name: value for name, value in self._given_spec().items() if scope(name) == "checkpoint"}
        effective_spec(info.config, info.config.to_parameters() | fixed)
        return info

    def config_under(self, info: CheckpointInfo) -> MaskACTConfig:
        """The configuration of another policy, with the user's parameters that fit it. It is declared, too."""
        given = self._given_spec()
        carried = carried_over(info.config, given)
        for name in given:
            if scope(name) == "runtime" and name not in carried:
                self.get_logger().warning(
                    f"{name} is as in the new policy's checkpoint: {given[name]!r} does not fit it"
                )
        return self._declare_spec(info.config, carried)

    def _given_spec(self) -> dict[str, Any]:
        """The specification's parameters that the user has set, at the start or later."""
        names = {*self._parameter_overrides, *self._set_since_start}
        return {name: value for name, value in spec_values(self).items() if name in names}

    def _declare_spec(self, checkpoint: MaskACTConfig, kept: Collection[str]) -> MaskACTConfig:
        return declare_spec(self, checkpoint, self.CHANGEABLE_SPEC, kept)

    def _robot_of(self, info: CheckpointInfo) -> RobotSpec:
        """The robot to run a policy on. It must match the checkpoint's; raises RobotError."""
        if info.robot.name == UNKNOWN_ROBOT and not self.get("robot_file"):
            raise RobotError(
                f"the checkpoint {info.folder} does not know its robot's limits, as it was imported without one; "
                "give robot_file, and import with --robot if the joints' names differ"
            )
        robot = RobotSpec.from_yaml(resolve_path(self.get("robot_file"))) if self.get("robot_file") else info.robot
        differences = robot.differences(info.robot)
        if differences:
            raise RobotError(f"the checkpoint {info.folder} is for another robot: " + "; ".join(differences))
        return robot

    def config_with(self, values: Mapping[str, Any]) -> MaskACTConfig:
        """The configuration with these parameters set; raises ConfigError, also for a wrong combination."""
        changes = {name: value for name, value in values.items() if is_spec(name)}
        return MaskACTConfig.from_parameters(spec_values(self) | changes)

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """As rclpy's, but the node applies all parameters before they are stored, or refuses all of them.

        A value that is already set is no change: nothing is applied, stored or announced for it.
        """
        try:
            values = self._changes(parameter_list)
            if self._configured and values:
                self.reconfigure(values)
        except MaskACTError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._set_since_start |= values.keys()
        if not values:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically([item for item in parameter_list if item.name in values])

    def _changes(self, parameter_list: list[Parameter[Any]]) -> dict[str, Any]:
        """The values of a request that differ from the present ones, checked alone and together."""
        named: set[str] = set()
        values: dict[str, Any] = {}
        for parameter in parameter_list:
            name = parameter.name
            if not self.has_parameter(name):
                if is_spec(name) and not spec_values(self):
                    raise ParameterError(f"{name} is not known before the node is configured, as its checkpoint is not")
                shown = f"{name} (value {parameter.value!r})"
                raise ParameterError(unknown_key(shown, name, dict.fromkeys(self._parameters)))
            if name in named:
                raise ParameterError(f"{name} is set twice in one request")
            named.add(name)
            if not holds(parameter, self.get_parameter(name)):
                values[name] = checked(parameter, self.describe_parameter(name))
        if any(map(is_spec, values)):
            self.config_with(values)
        return values

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        result = self._transition(self._configure, "inactive", undo=self.clean_up)
        self._configured = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        super().on_activate(state)
        return self._transition(self.activate, "active", undo=self.deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        result = self._transition(self.deactivate, "inactive")
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        self._configured = False
        return self._transition(self.clean_up, "unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback."""
        if state.label == "active":
            self._transition(self.deactivate, "inactive")
        self._configured = False
        self.finalized = True  # the process ends: no transition leads out of this state
        return self._transition(self.clean_up, "finalized")

    def _configure(self) -> None:
        for parameter in self._declared:
            parameter.check_choice(self.get(parameter.name))
        self.configure()

    def _transition(self, step: Any, then: str, undo: Any = None) -> TransitionCallbackReturn:
        self.diagnostics.forget("transition")  # so that the same refusal is logged each time
        try:
            step()
        except MaskACTError as error:
            self.diagnostics.problem("transition", str(error))
        except Exception as error:  # noqa: BLE001 - rclpy would hide a bug without a message
            self.diagnostics.problem("transition", f"a bug in maskact_ros, please report it: {error!r}")
            self.get_logger().error(traceback.format_exc())
        else:
            self.diagnostics.value("state", then)
            return TransitionCallbackReturn.SUCCESS
        if undo is not None:
            undo()
        return TransitionCallbackReturn.FAILURE
