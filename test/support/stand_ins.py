"""Stand-ins, inside the test's process, for the surroundings of a node under test: arm, planner and camera."""

import array
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.chunk import Chunk
from maskact_ros.core.features import Features
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.messages import (
    chunk_to_message,
    features_parts,
    image_to_message,
    ns_to_stamp,
    stamp_to_ns,
)
from support.node_bench import BEST_EFFORT, LATCHED, Heard, Probe, set_points, state_of
from support.soundness import assert_sent_at

Message = TypeVar("Message")
# A program: a node of the name that it is given, of which nothing but its signs of life is there.
PEER = """
import sys
import rclpy
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.peers import Peers
rclpy.init()
node = ManagedNode(sys.argv[1], ())
peers = Peers(node)
rclpy.spin(node)
"""
# Makes a process's rclpy refuse each event, as it does on an RMW that has none.
NO_EVENTS = """
import rclpy.event_handler as events

class NoEvents(events.EventHandler):
    def __init__(self, *, callback_group, callback, event_type, parent_impl):
        raise events.UnsupportedEventTypeError(f"provided event_type {event_type} is not supported")

events.EventHandler = NoEvents
"""
_SILENT_S = 0.5  # without a command: it sends none


def without_events(folder: Path) -> str:
    """The PYTHONPATH of a program whose RMW has no events; the folder becomes part of it."""
    (folder / "sitecustomize.py").write_text(NO_EVENTS, encoding="utf-8")
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


class Witness:
    """Hears what the action publisher commands, and the rung that it says it stands on."""

    def __init__(self, probe: Probe):
        self._probe = probe
        self.commands = self.hear(probe)
        self.states = probe.hear(String, "state", LATCHED)

    def hear(self, probe: Probe) -> list[Heard]:
        """The commands, as they come."""
        return probe.hear(Float64MultiArray, "command")

    def wait_for_rung(self, rung: str) -> Heard:
        """The newest state, once it is on that rung."""

        def newest() -> Heard | None:
            return self.states[-1] if self.states and state_of(self.states[-1])["rung"] == rung else None

        return self._probe.wait(newest, f"the rung {rung}")

    def wait_for_commands(self, count: int) -> list[Heard]:
        """The next `count` commands."""
        known = len(self.commands)
        self._probe.wait(lambda: len(self.commands) >= known + count, f"{count} commands")
        return self.commands[known : known + count]

    def wait_for_rest(self) -> None:
        """Wait until a command says the same as the one before it, both sent from now on; or until none comes."""
        began_ns, began_s = time.time_ns(), time.monotonic()

        def at_rest() -> bool:
            *_, before, last = self.commands
            if before.sent_ns < began_ns:
                return time.monotonic() - max(began_s, last.at_s) > _SILENT_S
            return before.message.data == last.message.data

        self._probe.wait(at_rest, "the arm to come to rest")

    def assert_rate(self, rate_hz: float, commands: int = 100) -> None:
        """The next commands are sent at this rate, and never faster.

        Periods that a loaded machine delays or skips lengthen single intervals: up to half of them may be so.
        """
        assert_sent_at(self.wait_for_commands(commands), rate_hz)

    def assert_still(self, commands: int) -> None:
        """The next commands all say the same."""
        held = set_points(self.wait_for_commands(commands))
        assert (held == held[0]).all()


class Arm(Witness):
    """An arm that is always at the last command, and sends joint states at 100 Hz."""

    def __init__(self, probe: Probe, robot: RobotSpec):
        super().__init__(probe)
        self.robot = robot
        self.middle = (robot.lower + robot.upper) / 2
        self.alter: Callable[[JointState], JointState | None] = healthy  # how it falsifies its joint states
        self._measured = 0
        self._joint_states = probe.publisher(JointState, "joint_states")
        probe.every(0.01, self._measure)

    def wait_for_measurements(self, count: int) -> None:
        """Wait until it has measured its joints so often from now on, and sent that if it is not silent."""
        until = self._measured + count
        self._probe.wait(lambda: self._measured >= until, f"{count} measurements")

    def _measure(self) -> None:
        self._measured += 1
        positions = list(self.commands[-1].message.data) if self.commands else self.middle.tolist()
        message = JointState(name=list(self.robot.joint_names), position=positions)
        message.header.stamp = ns_to_stamp(self._probe.now_ns())
        altered = self.alter(message)
        if altered is not None:
            self._joint_states.publish(altered)


class Planner:
    """Sends chunks to the action publisher."""

    def __init__(self, probe: Probe, robot: RobotSpec):
        self._probe = probe
        self._robot = robot
        self._chunks = probe.publisher(JointTrajectory, "action_chunk")

    def send(self, actions: np.ndarray, *, stamp_ns: int | None = None) -> None:
        """Send a chunk of actions (K, D), captured now unless said otherwise."""
        self.send_message(self.message(actions, stamp_ns=stamp_ns))

    def message(self, actions: np.ndarray, *, stamp_ns: int | None = None) -> JointTrajectory:
        stamp_ns = self._probe.now_ns() if stamp_ns is None else stamp_ns
        return chunk_to_message(Chunk(stamp_ns, self._robot.policy_period_ns, actions), self._robot.joint_names)

    def send_message(self, message: JointTrajectory) -> None:
        self._chunks.publish(message)

    def swing(self, seconds: float) -> np.ndarray:
        """Actions (K, D): every joint swings about its middle once in two seconds, at up to 80 % of its speed."""
        lower, upper = self._robot.lower, self._robot.upper
        amplitude = np.minimum(0.8 * self._robot.velocity / np.pi, 0.4 * (upper - lower))
        times_s = np.arange(1, 1 + round(seconds * self._robot.policy_rate_hz)) / self._robot.policy_rate_hz
        return (lower + upper) / 2 + np.sin(np.pi * times_s)[:, None] * amplitude


def features_to_message(features: Features, frame_id: str) -> CompressedImage:
    """What the encoder sends of an image, made by rclpy."""
    message, blocks = features_parts(features, frame_id)
    message.data = array.array("B", b"".join(block.tobytes() for block in blocks))
    return message


def healthy(message: Message) -> Message:
    return message


def shuffled(message: JointState) -> JointState:
    """The same joint state with its joints in another order, and one more joint among them."""
    order = np.random.default_rng(0).permutation(len(message.name))
    names = [message.name[i] for i in order]
    positions = [message.position[i] for i in order]
    message.name, message.position = ["somebody_elses", *names], array.array("d", [9.0, *positions])
    return message


def without_the_last_joint(message: JointState) -> JointState:
    message.name, message.position = message.name[:-1], message.position[:-1]
    return message


def with_a_nan(message: JointState) -> JointState:
    message.position[2] = float("nan")
    return message


def silent(_: object) -> None:
    return None


class Camera:
    """Publishes pictures at 30 Hz: those of the robot's only camera, as far as `alter` leaves them so."""

    def __init__(self, probe: Probe, robot: RobotSpec):
        self.camera = robot.only_camera
        self.alter: Callable[[Image], Image | bytes | None] = healthy  # bytes: of a message
        self._probe = probe
        self._images = probe.publisher(Image, "image_raw", BEST_EFFORT)
        self.stamps_ns: list[int] = []  # of all images, whether they were sent or not
        probe.every(1 / 30, self._capture)

    def _capture(self) -> None:
        picture = np.full((self.camera.height, self.camera.width, 3), 100, np.uint8)
        header = Header(stamp=ns_to_stamp(self._probe.now_ns()), frame_id=self.camera.name)
        self.stamps_ns.append(stamp_to_ns(header.stamp))
        altered = self.alter(image_to_message(picture, "rgb8", header))
        if altered is not None:
            self._images.publish(altered)
