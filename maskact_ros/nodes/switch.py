"""`maskact enable` and `maskact disable`: the action publisher's switch, for machines without `ros2 service call`."""

from __future__ import annotations

import rclpy
from std_srvs.srv import SetBool

from maskact_ros.errors import MaskACTError

FOUND_WITHIN_S = 5.0  # DDS discovery takes a second or so
ANSWER_WITHIN_S = 5.0


def switch(namespace: str, *, on: bool) -> str:
    """Enable or disable the action publisher of a namespace and return its answer.

    Raises:
        MaskACTError: it cannot be found, does not answer, or refuses.
    """
    service = f"/{namespace.strip('/')}/action_publisher/enable".replace("//", "/")
    rclpy.init()
    try:
        node = rclpy.create_node("maskact_switch")
        client = node.create_client(SetBool, service)
        if not client.wait_for_service(timeout_sec=FOUND_WITHIN_S):
            raise MaskACTError(
                f"there is no {service} within {FOUND_WITHIN_S:g} s; is bringup running, in this ROS_DOMAIN_ID?"
            )
        future = client.call_async(SetBool.Request(data=on))
        rclpy.spin_until_future_complete(node, future, timeout_sec=ANSWER_WITHIN_S)
        if not future.done():
            raise MaskACTError(f"{service} did not answer within {ANSWER_WITHIN_S:g} s")
        answer = future.result()
    finally:
        rclpy.try_shutdown()
    if not answer.success:
        raise MaskACTError(answer.message)
    return str(answer.message)
