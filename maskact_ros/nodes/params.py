"""ROS parameters, declared once each: type, default, description, range, and whether they may change while running.

In: a node's own parameters and the checkpoint's configuration. Out: declared parameters, and the configuration in
effect. A parameter that does not fit raises `ParameterError`, whose text names it, its value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from maskact_ros.config import PARAMETERS, MaskACTConfig, unknown_key
from maskact_ros.errors import MaskACTError

FIXED_BY = {
    "checkpoint": "it is fixed by the checkpoint's weights; train with another value instead",
    "training": "it matters to the trainer only; the policy that runs does not use it",
    "runtime": "restart the node with another value",
}


class ParameterError(MaskACTError):
    """A ROS parameter that does not fit."""


@dataclass(frozen=True)
class NodeParameter:
    """One parameter of a node: its type is the default's, its range is closed."""

    name: str
    default: str | bool | int | float
    description: str
    minimum: float | None = None
    maximum: float | None = None
    changeable: bool = False
    fixed_because: str = "it is read once, when the node is configured; restart the node with another value"

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(description=self.description, read_only=not self.changeable)
        if not self.changeable:
            descriptor.additional_constraints = f"Read-only: {self.fixed_because}."
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, int):
                bounds = IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=0)
                descriptor.integer_range = [bounds]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum), step=0.0)
                ]
        return descriptor


def declare(node: Node, parameters: Sequence[NodeParameter]) -> None:
    """Declare a node's own parameters; raises ParameterError for an override of a wrong type or out of range."""
    for parameter in parameters:
        _declare(node, parameter.name, parameter.default, parameter.descriptor())


def declare_spec(node: Node, checkpoint: MaskACTConfig) -> MaskACTConfig:
    """Declare every parameter of the specification and return the configuration in effect.

    What the user left out is as in the checkpoint. What the checkpoint fixes, and the user sets otherwise, raises
    ParameterError with both values; a value that is not allowed raises ParameterError or ConfigError.
    """
    defaults = checkpoint.to_parameters()
    for name, default in defaults.items():
        if node.has_parameter(name):
            continue  # configured before
        parameter = PARAMETERS[name.partition(".")[0]]
        descriptor = ParameterDescriptor(
            description=parameter.description,
            additional_constraints=f"Allowed: {parameter.allowed}. Read-only: {FIXED_BY[parameter.scope]}.",
            read_only=True,
            dynamic_typing=may_be_none(name),
        )
        _declare(node, name, default, descriptor)
    given = {name: _plain(node.get_parameter(name).value) for name in defaults}
    effective = MaskACTConfig.from_parameters(given)
    for name, value in effective.to_parameters().items():
        scope = PARAMETERS[name.partition(".")[0]].scope
        if scope == "checkpoint" and value != defaults[name]:
            raise ParameterError(
                f"{name} is {value!r}, but the checkpoint was trained with {defaults[name]!r}; "
                "leave it out, or use a checkpoint trained so"
            )
    return effective


def refuse_unknown(node: Node, *, also: Collection[str] = ()) -> None:
    """Raise ParameterError when the node was given a parameter that it does not have: a typing error, most likely.

    `also` names parameters, and groups of them, that are not declared yet.
    """
    overrides: Mapping[str, Any] = node._parameter_overrides
    known = dict.fromkeys([*node._parameters, *also])
    for name, parameter in overrides.items():
        if name not in known and name.partition(".")[0] not in {*also, "qos_overrides"}:
            raise ParameterError(unknown_key(f"{name} (value {_plain(parameter.value)!r})", name, known))


def may_be_none(flat_name: str) -> bool:
    """Whether a flat parameter can be `none`, so that its type is not fixed."""
    name = flat_name.partition(".")[0]
    return name == "label_attention_rules" or (PARAMETERS[name].default is None and name != "lora_config")


def _declare(node: Node, name: str, default: Any, descriptor: ParameterDescriptor) -> None:
    try:
        node.declare_parameter(name, default, descriptor)
    except InvalidParameterTypeException:
        value = node._parameter_overrides[name].value
        raise ParameterError(f"{name} is {_plain(value)!r}; allowed: {_kind(default)}") from None
    except InvalidParameterValueException:
        value = node._parameter_overrides[name].value
        bounds = [*descriptor.integer_range, *descriptor.floating_point_range]
        allowed = " to ".join(f"{bound:g}" for bound in (bounds[0].from_value, bounds[0].to_value))
        raise ParameterError(f"{name} is {_plain(value)!r}; allowed: {allowed}") from None


def _kind(default: Any) -> str:
    """What a parameter with this default may be, in words."""
    if isinstance(default, list):
        return "a list of texts" if isinstance(default[0], str) else "a list of numbers with a decimal point"
    return {str: "a text", bool: "true or false", int: "an integer", float: "a number with a decimal point"}[
        type(default)
    ]


def _plain(value: Any) -> Any:
    """Python's own types from a parameter's value: arrays come as `array.array`."""
    return value if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else list(value)
