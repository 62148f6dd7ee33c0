"""Calls a node's parameter services, as `ros2 param set` and `ros2 param get` do."""

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python

from support.node_bench import Probe


def ask(probe: Probe, node: str, **values) -> SetParametersResult:
    """Set parameters in one request; of a name with a dot, the dot is written as two underscores."""
    return ask_with(probe, node, *(message(name.replace("__", "."), value) for name, value in values.items()))


def ask_with(probe: Probe, node: str, *messages: ParameterMessage) -> SetParametersResult:
    """Send these parameters, valid or not, in one request."""
    request = SetParametersAtomically.Request(parameters=list(messages))
    return probe.call(SetParametersAtomically, f"{node}/set_parameters_atomically", request).result


def ask_one_by_one(probe: Probe, node: str, *messages: ParameterMessage) -> list[SetParametersResult]:
    request = SetParameters.Request(parameters=list(messages))
    return probe.call(SetParameters, f"{node}/set_parameters", request).results


def message(name: str, value) -> ParameterMessage:
    return Parameter(name, value=value).to_parameter_msg()


def all_values(probe: Probe, node: str) -> dict:
    """Every parameter of a node, in Python's own types."""
    names = probe.call(ListParameters, f"{node}/list_parameters", ListParameters.Request()).result.names
    answer = probe.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names))
    values = (parameter_value_to_python(value) for value in answer.values)
    return {name: list(value) if hasattr(value, "tolist") else value for name, value in zip(names, values, strict=True)}
