"""`maskact enable`, `disable` and `reset`: call the action publisher's services without `ros2`."""

from __future__ import annotations

from typing import Any

import rclpy
from std_srvs.srv import SetBool, Trigger

from maskact_ros.core.errors import MaskACTError, printable

FOUND_WITHIN_S = 5.0  # DDS discovery takes a second or so
ANSWER_WITHIN_S = 5.0


def switch(namespace: str, *, on: bool) -> str:
    """Enable or disable the action publisher of a namespace and return its answer.

    Raises:
        MaskACTError: it cannot be found, does not answer, or refuses.
    """
    return _call(namespace, "enable", SetBool, SetBool.Request(data=on))


def reset(namespace: str) -> str:
    """Reset the action publisher of a namespace, which clears a fault whose cause is gone; return its answer.

    Raises:
        MaskACTError: it cannot be found, does not answer, or refuses.
    """
    return _call(namespace, "reset", Trigger, Trigger.Request())


def _call(namespace: str, name: str, kind: type, request: Any) -> str:
    service = f"/{namespace.strip('/')}/action_publisher/{name}".replace("//", "/")
    rclpy.init()
    try:
        node = rclpy.create_node("maskact_switch")
        client = node.create_client(kind, service)
        if not client.wait_for_service(timeout_sec=FOUND_WITHIN_S):
            raise MaskACTError(
                f"there is no {service} within {FOUND_WITHIN_S:g} s; is bringup running, in this ROS_DOMAIN_ID?"
            )
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future, timeout_sec=ANSWER_WITHIN_S)
        if not future.done():
            raise MaskACTError(f"{service} did not answer within {ANSWER_WITHIN_S:g} s")
        answer = future.result()
    finally:
        rclpy.try_shutdown()
    if not answer.success:
        raise MaskACTError(answer.message)
    return printable(answer.message)
