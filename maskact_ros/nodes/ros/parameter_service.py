"""rclpy's parameter services, but an invalid request is refused; rclpy's would raise in the executor.

In: SetParameters and SetParametersAtomically requests. Out: a refusal with its reason, or the node's answer.
"""

from __future__ import annotations

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.parameter_service import ParameterService

_KINDS = frozenset(kind.value for kind in Parameter.Type)


class RefusingParameterService(ParameterService):  # type: ignore[misc]
    """Use it in place of rclpy's, for a node with `start_parameter_services=False`."""

    def _set_parameters_callback(
        self, request: SetParameters.Request, response: SetParameters.Response
    ) -> SetParameters.Response:
        response.results = [self._set([message]) for message in request.parameters]
        return response

    def _set_parameters_atomically_callback(
        self, request: SetParametersAtomically.Request, response: SetParametersAtomically.Response
    ) -> SetParametersAtomically.Response:
        response.result = self._set(request.parameters)
        return response

    def _set(self, messages: list[ParameterMessage]) -> SetParametersResult:
        for message in messages:
            if message.value.type not in _KINDS:
                reason = f"{message.name} has the type {message.value.type}; allowed: those of rcl_interfaces, 1 to 9"
                return SetParametersResult(successful=False, reason=reason)
        parameters = [Parameter.from_parameter_msg(message) for message in messages]
        result: SetParametersResult = self._get_node().set_parameters_atomically(parameters)
        return result
