"""The simulated robot: an arm, a camera and a task in MuJoCo, with the topics of a real arm under ros2_control.

Subscribes command; publishes image_raw, camera_info and joint_states. Publishes mask_truth, object_pose, bin_pose and
episode, too, which only a simulation knows. `~/reset` begins the next episode; each episode's seed is one higher.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import asdict

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from std_srvs.srv import Trigger

from maskact_ros.control.realtime import RateLoop
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.common_parameters import SIM_ROBOT_FILE
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import camera_info_message, image_to_message, ns_to_stamp, pose_to_message
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import NodeParameter, ParameterError, refuse_unknown
from maskact_ros.sim.look import NO_SHIFT
from maskact_ros.sim.renderer import Renderer, intrinsics
from maskact_ros.sim.scene import TIMESTEP_S
from maskact_ros.sim.world import HOME, Episode, Snapshot, World

PARAMETERS = (
    SIM_ROBOT_FILE,
    NodeParameter(
        "seed",
        0,
        "Seed of the first episode; each further episode has the next one. Setting it starts the count again.",
        0,
        2**31 - 1,
        changeable=True,
    ),
    NodeParameter(
        "shift",
        NO_SHIFT,
        "How the scene differs from the usual one: background, light, object, distractors or camera, or several of "
        f"them joined by +. {NO_SHIFT} keeps the usual scene.",
    ),
    NodeParameter("noise", True, "Whether images and joint states are noisy."),
    NodeParameter("image_rate_hz", 30.0, "Images per second.", 1.0, 120.0, unit="Hz"),
    NodeParameter(
        "mask_truth_every",
        1,
        "One true mask is published for every N images, while the topic has a subscriber.",
        1,
        10_000,
    ),
    NodeParameter(
        "publish_clock",
        False,
        "Whether the node publishes simulated time on /clock, and stamps its messages with it.",
    ),
)
RATE_HZ = 100.0  # of the joint states
MAX_BEHIND_S = 0.1  # after a longer pause the simulation does not catch up: it continues from where it was


class SimRobot(ManagedNode):
    """Thin: a loop steps the world in real time and measures it; a worker renders and publishes the images."""

    def __init__(self) -> None:
        super().__init__("sim_robot", PARAMETERS)
        self._loop: RateLoop | None = None

    def configure(self) -> None:
        """Build the world; create the topics."""
        refuse_unknown(self)
        robot_file = self.get("robot_file") or shared("config/robot.yaml")
        self._robot = robot = RobotSpec.from_yaml(robot_file)
        if self.get("use_sim_time"):
            raise ParameterError("use_sim_time is true; allowed: false, as this node makes the time (publish_clock)")
        self._world = World(robot, seed=self.get("seed"), shift=self.get("shift"), noise=self.get("noise"))
        self._seed_given, self._episodes_of_seed = self.get("seed"), 0
        self._inbox: deque[Float64MultiArray | None] = deque()  # commands; None is a reset
        self._camera_info = camera_info_message(robot.only_camera, intrinsics(robot))

        sensor = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._images = self.create_lifecycle_publisher(Image, "image_raw", sensor)
        self._infos = self.create_lifecycle_publisher(CameraInfo, "camera_info", sensor)
        self._truths = self.create_lifecycle_publisher(Image, "mask_truth", sensor)
        self._joints = self.create_lifecycle_publisher(JointState, "joint_states", 10)
        self._objects = self.create_lifecycle_publisher(PoseStamped, "object_pose", 10)
        self._bins = self.create_lifecycle_publisher(PoseStamped, "bin_pose", 10)
        self._episodes = self.create_lifecycle_publisher(String, "episode", latched)
        if self.get("publish_clock"):
            self._clock_out = self.create_lifecycle_publisher(Clock, "/clock", 10)
        self._commands = self.create_subscription(Float64MultiArray, "command", self._receive_command, 1)
        self._reset = self.create_service(Trigger, "~/reset", self._serve_reset)

    def activate(self) -> None:
        """Start the simulated time."""
        self._command: NDArray[np.float64] = HOME
        self._commanded_s: float | None = None  # when the episode's first command came
        self._said: Episode | None = None
        self._steps = 0  # since activation; a reset does not set the time back
        self._began_s = time.monotonic()
        self._image_due_s = 0.0
        self._renderer: Renderer | None = None  # belongs to the worker's thread
        self._drawn = 0  # images
        self._worker: NewestWorker[tuple[Snapshot, int]] = NewestWorker(
            self._render, name="render", finish=self._close_renderer
        )
        self._loop = RateLoop(RATE_HZ, self._tick, name="physics")
        self._loop.start()

    def deactivate(self) -> None:
        """Stop the simulated time."""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None
            self._worker.stop()

    def clean_up(self) -> None:
        """Destroy the topics."""
        topics = ("_images", "_infos", "_truths", "_joints", "_objects", "_bins", "_episodes", "_clock_out")
        self.destroy_entities(*topics, "_commands", "_reset")

    @property
    def crash(self) -> BaseException | None:
        """The exception that ended one of the two threads, or None."""
        return None if self._loop is None else self._loop.failure or self._worker.crash

    def _receive_command(self, message: Float64MultiArray) -> None:
        self._inbox.append(message)

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._loop is None:
            response.success, response.message = False, "the node is not active"
        else:
            self._inbox.append(None)
            response.success, response.message = True, "the next episode begins"
        return response

    def _tick(self, _: int) -> None:
        """Catch up with real time, then measure; in the loop's thread."""
        while self._inbox:
            message = self._inbox.popleft()
            if message is None:
                self._next_episode()
            else:
                self._take(message)
        behind_s = time.monotonic() - self._began_s - self._steps * TIMESTEP_S
        if behind_s > MAX_BEHIND_S:
            self._began_s += behind_s
            self.diagnostics.count("pauses")
            behind_s = 1.0 / RATE_HZ
        steps = int(behind_s / TIMESTEP_S)
        if steps == 0:
            return
        self._world.step(self._command, steps)
        self._steps += steps
        stamp_ns = self._now_ns()
        self._publish_measurement(stamp_ns)
        simulated_s = self._steps * TIMESTEP_S
        if simulated_s >= self._image_due_s:
            self._image_due_s = max(self._image_due_s + 1.0 / self.get("image_rate_hz"), simulated_s - 0.1)
            if self._worker.put((self._world.snapshot(), stamp_ns)):
                self.diagnostics.count("images_dropped")
        self._publish_episode()

    def _now_ns(self) -> int:
        if not self.get("publish_clock"):
            return int(self.get_clock().now().nanoseconds)
        stamp_ns = 1_000_000_000 + round(self._steps * TIMESTEP_S * 1e9)
        self._clock_out.publish(Clock(clock=ns_to_stamp(stamp_ns)))
        return stamp_ns

    def _take(self, message: Float64MultiArray) -> None:
        command = np.array(message.data)
        if command.shape != self._command.shape or not np.isfinite(command).all():
            shown = command.tolist() if len(command) <= 2 * len(self._command) else f"of {len(command)} numbers"
            self.diagnostics.problem("command", f"the command is {shown}; allowed: {len(self._command)} finite numbers")
            return
        self.diagnostics.solved("command")
        self.diagnostics.event("commands")
        self._command = command
        if self._commanded_s is None:
            self._commanded_s = self._world.time_s

    def _next_episode(self) -> None:
        if self.get("seed") != self._seed_given:
            self._seed_given, self._episodes_of_seed = self.get("seed"), -1
        self._episodes_of_seed += 1
        self._world.reset(self._seed_given + self._episodes_of_seed)
        self._command, self._commanded_s = HOME, None

    def _publish_measurement(self, stamp_ns: int) -> None:
        measured = self._world.measure()
        header = Header(stamp=ns_to_stamp(stamp_ns), frame_id="base_link")
        state = JointState(header=header, name=list(self._robot.joint_names))
        state.position, state.velocity = measured.positions.tolist(), measured.velocities.tolist()
        self._joints.publish(state)
        self.diagnostics.event("joint_states")
        for publisher, pose in ((self._objects, self._world.object_pose), (self._bins, self._world.bin_pose)):
            if publisher.get_subscription_count():
                publisher.publish(pose_to_message(pose, header))

    def _publish_episode(self) -> None:
        episode = self._world.episode
        if self._said is None or (episode.number, episode.success) != (self._said.number, self._said.success):
            self._said = episode
            began_s = self._world.time_s if self._commanded_s is None else self._commanded_s
            lasted = {"seconds": round(max(0.0, episode.seconds - began_s), 3)}  # since the first command
            self._episodes.publish(String(data=json.dumps(asdict(episode) | lasted)))

    def _render(self, item: tuple[Snapshot, int]) -> None:
        """Render and publish one image; in the worker's thread."""
        snapshot, stamp_ns = item
        if self._renderer is None:
            self._renderer = Renderer(self._robot, noise=self.get("noise"))
        started_s = time.perf_counter()
        header = Header(stamp=ns_to_stamp(stamp_ns), frame_id=self._robot.only_camera.name)
        self._images.publish(image_to_message(self._renderer.rgb(snapshot), "rgb8", header))
        self._camera_info.header = header
        self._infos.publish(self._camera_info)
        self._drawn += 1
        if self._truths.get_subscription_count() and self._drawn % self.get("mask_truth_every") == 0:
            self._truths.publish(image_to_message(self._renderer.labels(snapshot), "mono8", header))
        self.diagnostics.event("images")
        self.diagnostics.duration("render", (time.perf_counter() - started_s) * 1e3)

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


def run() -> None:
    """Entry point of `ros2 run maskact_ros sim_robot`."""
    main(SimRobot)


if __name__ == "__main__":
    run()
