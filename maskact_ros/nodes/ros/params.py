"""Declares ROS parameters: type, default, description, range, and whether they may change while the node runs.

In: a node's own parameters and the checkpoint's configuration. Out: declared parameters, and the configuration in
effect. An invalid parameter raises `ParameterError`; its text names the parameter, its value and what is allowed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from maskact_ros.core.config import PARAMETERS, ConfigError, MaskACTConfig, unknown_key
from maskact_ros.core.errors import MaskACTError


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Settings = TypeVar("Settings", bound=_Dataclass)

FIXED_BY = {
    "checkpoint": "it is fixed by the checkpoint's weights; train with another value instead",
    "training": "it matters to the trainer only; the policy that runs does not use it",
    "runtime": "it is another node that uses it; set it there, or restart this one with another value",
}
_KINDS = {
    Parameter.Type.STRING: "a text",
    Parameter.Type.BOOL: "true or false",
    Parameter.Type.INTEGER: "an integer",
    Parameter.Type.DOUBLE: "a number with a decimal point, such as 1.0",
    Parameter.Type.STRING_ARRAY: "a list of texts",
    Parameter.Type.DOUBLE_ARRAY: "a list of numbers with a decimal point",
}
_FRACTIONS = (Parameter.Type.DOUBLE, Parameter.Type.DOUBLE_ARRAY)


class ParameterError(MaskACTError):
    """An invalid ROS parameter."""


@dataclass(frozen=True)
class NodeParameter:
    """One parameter of a node. Its type is the default's type; its range includes both ends.

    `--help`, config/maskact.yaml and the reference page are generated from these declarations.
    """

    name: str
    default: str | bool | int | float
    description: str
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()  # allowed strings of a read-only parameter; checked when the node is configured
    changeable: bool = False
    fixed_because: str = "it is read once, when the node is configured; restart the node with another value"
    heading: str = ""  # heading of the group of parameters that begins with this one

    @property
    def type(self) -> str:
        """The type's name in ROS."""
        return {bool: "bool", int: "integer", float: "double", str: "string"}[type(self.default)]

    @property
    def shown_default(self) -> str:
        """The default as YAML and the command line write it."""
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)

    @property
    def range(self) -> str:
        """The allowed values in words, without the unit; empty if any value of the type is allowed."""
        if self.minimum is not None and self.maximum is not None:
            return f"{_shown(self.minimum)} to {_shown(self.maximum)}"
        return " or ".join(part for part in (", ".join(self.choices[:-1]), *self.choices[-1:]) if part)

    @property
    def facts(self) -> str:
        """Range, unit and whether the value may change, in one line; may be empty."""
        span = " ".join(part for part in (self.range, self.unit) if part)
        return "; ".join(part for part in (span, "changeable" if self.changeable else "") if part)

    def check_choice(self, value: Any) -> None:
        """Raise ParameterError for a string that is none of the choices, if there are choices."""
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} is {value!r}; allowed: {', '.join(self.choices)}")

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor that `ros2 param describe` shows."""
        about = self.description
        if self.unit:
            about += f" Unit: {self.unit}."
        if self.choices:
            about += f" Allowed: {self.range}."
        descriptor = ParameterDescriptor(description=about, read_only=not self.changeable)
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


def snapshot(kind: type[Settings], get: Callable[[str], Any]) -> Settings:
    """An object of a frozen dataclass whose fields have the names of parameters, with the parameters' values."""
    return kind(**{item.name: get(item.name) for item in fields(kind)})


def changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings, with those of the values that are fields of theirs."""
    own = {item.name for item in fields(settings)}
    return replace(settings, **{name: value for name, value in values.items() if name in own})


def declare(node: Node, parameters: Sequence[NodeParameter]) -> None:
    """Declare a node's own parameters; raises ParameterError for an override of a wrong type or out of range."""
    for parameter in parameters:
        _declare(node, parameter.name, parameter.default, parameter.descriptor())


def declare_spec(
    node: Node, checkpoint: MaskACTConfig, changeable: Collection[str] = (), kept: Collection[str] = ()
) -> MaskACTConfig:
    """Declare every parameter of the specification, or show those of another checkpoint; return what is in effect.

    `changeable` names the parameters of scope runtime that the node can change while it runs; `kept` names those that
    were set since the node started. A parameter that the user has not set is as in the checkpoint. A value other than
    the one that the checkpoint fixes raises ParameterError with both values. An invalid value raises ParameterError or
    ConfigError.
    """
    defaults, before = checkpoint.to_parameters(), spec_values(node)
    for name in before.keys() - defaults.keys():  # rules for labels that this checkpoint does not have
        del node._parameters[name], node._descriptors[name]
    for name, default in defaults.items():
        descriptor = _spec_descriptor(name, changeable)
        if name not in before:
            _declare(node, name, default, descriptor)
        else:
            overwrite(node, name, before[name] if name in kept else default, descriptor)
    return effective_spec(checkpoint, spec_values(node))


def effective_spec(checkpoint: MaskACTConfig, values: Mapping[str, Any]) -> MaskACTConfig:
    """The configuration of these flat values; raises as `declare_spec` does."""
    defaults, effective = checkpoint.to_parameters(), MaskACTConfig.from_parameters(values)
    for name, value in effective.to_parameters().items():
        if scope(name) == "checkpoint" and value != defaults[name]:
            raise ParameterError(
                f"{name} is {value!r}, but the checkpoint was trained with {defaults[name]!r}; "
                "leave it out, or use a checkpoint trained so"
            )
    return effective


def carried_over(checkpoint: MaskACTConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given flat values of scope runtime that fit another checkpoint, too; earlier values have precedence."""
    values, carried = checkpoint.to_parameters(), dict[str, Any]()
    for name, value in given.items():
        if name in values and scope(name) == "runtime":
            with contextlib.suppress(ConfigError):
                MaskACTConfig.from_parameters(values | carried | {name: value})
                carried[name] = value
    return carried


def overwrite(node: Node, name: str, value: Any, descriptor: ParameterDescriptor | None = None) -> None:
    """Set the shown value of a declared parameter, read-only or not, and announce the change."""
    descriptor = descriptor or node.describe_parameter(name)
    if not descriptor.dynamic_typing:
        descriptor.type = Parameter.Type.from_parameter_value(value).value
    result = node._set_parameters_atomically_common([Parameter(name, value=value)], {name: descriptor})
    assert result.successful, result.reason


def is_spec(flat_name: str) -> bool:
    """Whether a flat parameter is one of the specification's."""
    return flat_name.partition(".")[0] in PARAMETERS


def scope(flat_name: str) -> str:
    """The scope of one of the specification's parameters: `checkpoint`, `training` or `runtime`."""
    return PARAMETERS[flat_name.partition(".")[0]].scope


def spec_values(node: Node) -> dict[str, Any]:
    """The specification's parameters as a node has declared them; empty before it was configured."""
    return {name: _plain(parameter.value) for name, parameter in node._parameters.items() if is_spec(name)}


def holds(wanted: Parameter[Any], present: Parameter[Any]) -> bool:
    """Whether a request asks for the present value.

    `ros2 param load` sends a number that Python writes without a point, such as 1e-05, as a string.
    """
    value, held = _plain(wanted.value), _plain(present.value)
    if wanted.type_ == Parameter.Type.STRING and present.type_ in _FRACTIONS:
        return bool(value == str(held))
    return bool(wanted.type_ == present.type_ and value == held)


def checked(parameter: Parameter[Any], descriptor: ParameterDescriptor) -> Any:
    """The value of a declared parameter in a request, in Python's own types.

    Raises:
        ParameterError: the parameter is read-only, or the value's type or range does not fit.
    """
    name, value = parameter.name, _plain(parameter.value)
    if descriptor.read_only:
        raise ParameterError(f"{name} cannot change now. {descriptor.additional_constraints}")
    kind = Parameter.Type(descriptor.type)
    if parameter.type_ == Parameter.Type.NOT_SET:
        raise ParameterError(f"{name} cannot be deleted; set it to another value instead")
    if not descriptor.dynamic_typing and parameter.type_ != kind:
        raise ParameterError(f"{name} is {value!r}; allowed: {_KINDS[kind]}")
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, float) and not math.isfinite(item):
            raise ParameterError(f"{name} is {value!r}; allowed: finite numbers")
    for bound in (*descriptor.integer_range, *descriptor.floating_point_range):
        if not bound.from_value <= value <= bound.to_value:
            raise ParameterError(f"{name} is {value!r}; allowed: {_range(descriptor)}")
    return value


def refuse_unknown(node: Node, *, also: Collection[str] = ()) -> None:
    """Raise ParameterError for a parameter that the node does not have: most likely a typing error.

    `also` names parameters, and groups of parameters, that are not declared yet.
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
        kind = Parameter.Type.from_parameter_value(default)
        raise ParameterError(f"{name} is {_plain(value)!r}; allowed: {_KINDS[kind]}") from None
    except InvalidParameterValueException:
        value = node._parameter_overrides[name].value
        raise ParameterError(f"{name} is {_plain(value)!r}; allowed: {_range(descriptor)}") from None


def _spec_descriptor(flat_name: str, changeable: Collection[str]) -> ParameterDescriptor:
    parameter = PARAMETERS[flat_name.partition(".")[0]]
    constraints = f"Allowed: {parameter.allowed}."
    if parameter.name not in changeable:
        constraints += f" Read-only: {FIXED_BY[parameter.scope]}."
    return ParameterDescriptor(
        description=parameter.description,
        additional_constraints=constraints,
        read_only=parameter.name not in changeable,
        dynamic_typing=may_be_none(flat_name),
    )


def _range(descriptor: ParameterDescriptor) -> str:
    bounds = [*descriptor.integer_range, *descriptor.floating_point_range]
    return " to ".join(f"{bound:g}" for bound in (bounds[0].from_value, bounds[0].to_value))


def _shown(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _plain(value: Any) -> Any:
    """A parameter's value in Python's own types; arrays come as `array.array`."""
    return value if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else list(value)
