"""A stranger that floods the action publisher with messages: `python -m …`, beside the control benchmark's peer.

For each line NAME on stdin it begins the flood NAME, and prints NAME; an empty line ends the flood. `FLOODS` has the
names: for each topic the largest message that is allowed, and messages that are refused.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.chunk import Chunk
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.control_cdr import MOST_NAMES, MOST_POINTS
from maskact_ros.nodes.ros.messages import chunk_to_message
from maskact_ros.nodes.ros.peers import ALIVE
from maskact_ros.nodes.ros.policy_swap import Phase, Standing
from maskact_ros.nodes.ros.polled import MOST_BYTES
from maskact_ros.tools.bringup import BringupArguments

LARGEST_URDF = 2_000_000
MEGABYTES = 3_000_000  # bytes of a string that is refused
UNANSWERED = 20  # most requests without an answer at a time
_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
FLOODS = (
    "action_chunk, largest",
    "action_chunk, 100000 points",
    "joint_states, largest",
    "joint_states, 200000 names",
    "policy, largest",
    "policy, a name of 3 MB",
    "command/driver",
    "command/driver, 3 MB",
    "/robot_description, largest",
    "inference/alive",
    "~/enable",
    "~/set_parameters, 3 MB",
)

Send = Callable[[], None]


class Flooder(Node):  # type: ignore[misc]
    """Makes, for the name of a flood, a function that sends the next message."""

    def __init__(self) -> None:
        super().__init__("flooder", namespace=BringupArguments().namespace)
        self._robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
        self._answered = threading.Semaphore(UNANSWERED)

    def flood(self, name: str) -> tuple[Send, Send]:
        """The function that sends, and the one that ends the flood."""
        topic, _, size = name.partition(", ")
        if topic.startswith("~/"):
            return self._requests(topic), lambda: None
        maker = "_" + topic.strip("/").replace("/", "_")
        kind, messages = getattr(self, maker)(size)
        publisher = self.create_publisher(kind, topic, ALIVE if kind is Empty else _LATCHED)
        bytes_of = itertools.cycle([serialize_message(message) for message in messages])
        return lambda: publisher.publish(next(bytes_of)), lambda: self.destroy_publisher(publisher)

    def _requests(self, service: str) -> Send:
        if service == "~/enable":
            client, request = self.create_client(SetBool, "action_publisher/enable"), SetBool.Request(data=True)
        else:
            client = self.create_client(SetParameters, "action_publisher/set_parameters")
            value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="x" * MEGABYTES)
            request = SetParameters.Request(parameters=[Parameter(name="policy_path", value=value)])
        client.wait_for_service()

        def send() -> None:
            if self._answered.acquire(timeout=0.2):  # with a timeout, as a dropped request is never answered
                client.call_async(request).add_done_callback(lambda _: self._answered.release())
            else:
                self._answered.release()

        return send

    def _action_chunk(self, size: str) -> tuple[type, Iterator[Any]]:
        names = self._robot.joint_names
        if size != "largest":
            chunk = Chunk(0, 10_000_000, np.zeros((100_000, len(names))))
            return JointTrajectory, iter([chunk_to_message(chunk, names)])
        others = tuple(f"another_{i}" for i in range(3 * len(names)))
        actions = np.zeros((MOST_POINTS, 4 * len(names)))
        message = chunk_to_message(Chunk(0, 10_000_000, actions), names + others)
        for point in message.points:
            point.velocities = point.accelerations = point.effort = point.positions
        plain = chunk_to_message(Chunk(0, 10_000_000, actions[:, : len(names)]), names)
        return JointTrajectory, iter([message, plain])

    def _joint_states(self, size: str) -> tuple[type, Iterator[Any]]:
        if size != "largest":
            return JointState, iter([JointState(name=[f"joint_{i}" for i in range(200_000)])])
        names = [*self._robot.joint_names, *(f"{i:0200}" for i in range(MOST_NAMES - len(self._robot.joints)))]
        zeros = [0.0] * MOST_NAMES
        message = JointState(name=names, position=zeros, velocity=zeros)
        turned = JointState(name=names[::-1], position=zeros, velocity=zeros)
        return JointState, iter([message, turned])

    def _policy(self, size: str) -> tuple[type, Iterator[Any]]:
        if size != "largest":
            return String, iter([String(data=json.dumps({"node": "x" * MEGABYTES}))])
        fill = MOST_BYTES - 8000
        running = (
            Standing("inference", "", Phase.RUNNING, f"{i}/" + "p" * 200, "r" * fill).to_message() for i in range(20)
        )
        return String, running

    def _command_driver(self, size: str) -> tuple[type, Iterator[Any]]:
        later = 9 * 10**18  # drivers that began later than the publisher do not stop it
        texts = [f"{later:020} {i:032x}" for i in range(5000)] if not size else ["x" * MEGABYTES]
        return String, (String(data=text) for text in texts)

    def _robot_description(self, _: str) -> tuple[type, Iterator[Any]]:
        urdf = shared("config/sim_arm.urdf").read_text(encoding="utf-8")
        return String, iter([String(data=urdf + " " * (LARGEST_URDF - len(urdf.encode()) - 100))])

    def _inference_alive(self, _: str) -> tuple[type, Iterator[Any]]:
        return Empty, iter([Empty()])


def main() -> None:
    """Flood by the lines on stdin, until stdin ends."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    flooder = Flooder()
    executor = SingleThreadedExecutor()
    executor.add_node(flooder)
    wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            wanted.put(line.strip())
        wanted.put(None)

    threading.Thread(target=read, daemon=True).start()
    threading.Thread(target=executor.spin, daemon=True).start()
    while (name := wanted.get()) is not None:
        if not name:
            continue
        send, end = flooder.flood(name)
        send()
        print(name, flush=True)
        while wanted.empty():
            with contextlib.suppress(RuntimeError):  # the subscriber does not keep up with a reliable publisher
                send()
        end()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
