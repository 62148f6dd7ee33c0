"""Camera encoder and inference with the tiny policy, behind the proxy, before a stand-in camera and arm."""

import array
import contextlib
import itertools
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.messages import stamp_to_ns
from support.node_bench import BEST_EFFORT, Bench, Heard, Probe, Program
from support.proxy import Stream, faulty
from support.soundness import Pulse, assert_stamps_increase
from support.stand_ins import Arm, Camera

MAX_IMAGE_AGE_S = 0.3


def noisy(camera: Camera):
    """Gives a camera's pictures the noise that every real one has."""
    random = np.random.default_rng(0)
    size = camera.camera.height * camera.camera.width * 3
    pictures = itertools.cycle([random.integers(90, 110, size, np.uint8) for _ in range(8)])

    def alter(image: Image) -> Image:
        image.data = array.array("B", next(pictures).tobytes())
        return image

    return alter


@dataclass
class Vision:
    """What sees and plans; all that it is given comes through the proxy."""

    bench: Bench
    robot: RobotSpec
    arm: Arm
    camera: Camera
    images: Stream
    features: Stream
    joints: Stream
    chunks: list[Heard]
    programs: dict[str, Program]
    pulse: Pulse

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder, policy, robot: RobotSpec, **parameters):
        """The two nodes, active, with chunks coming; they end with the `with` block."""
        with Bench(folder, policy) as bench, cls.on(bench, robot, **parameters) as vision:
            yield vision

    @classmethod
    @contextlib.contextmanager
    def on(cls, bench: Bench, robot: RobotSpec):
        probe = bench.probe
        images = Stream(probe, Image, "image_raw", BEST_EFFORT)
        features = Stream(probe, CompressedImage, "features", BEST_EFFORT)
        joints = Stream(probe, JointState, "joint_states")
        arm, camera = Arm(probe, robot), Camera(probe, robot)
        camera.alter = noisy(camera)
        chunks = probe.hear(JointTrajectory, "action_chunk")
        vision = cls(bench, robot, arm, camera, images, features, joints, chunks, {}, Pulse(probe))
        vision.start_node("camera_encoder")
        vision.start_node("inference")
        vision.wait_for_chunks(1)
        yield vision
        vision.pulse.close()
        for stream in (images, features, joints):
            stream.close()

    def start_node(self, name: str) -> Program:
        """Start one of the two, again or for the first time."""
        topics = {"camera_encoder": ("image_raw",), "inference": ("features", "joint_states")}[name]
        program = self.bench.start(name, remappings=faulty(*topics), max_image_age_s=MAX_IMAGE_AGE_S)
        self.programs[name] = program
        return program

    @property
    def probe(self) -> Probe:
        return self.bench.probe

    def heal(self) -> None:
        for stream in (self.images, self.features, self.joints):
            stream.heal()

    def wait_for_chunks(self, count: int) -> None:
        """Wait for so many more chunks."""
        until = len(self.chunks) + count
        self.probe.wait(lambda: len(self.chunks) >= until, f"{count} chunks", within_s=60.0)

    def let_pictures_pass(self, count: int) -> None:
        """Wait until the camera has taken so many more pictures."""
        until = len(self.camera.stamps_ns) + count
        self.probe.wait(lambda: len(self.camera.stamps_ns) >= until, f"{count} pictures")

    def assert_sound(self, begin: int = 0) -> None:
        """The chunks, from this one on: of real pictures, in their order, with the robot's joints, finite."""
        chunks = [heard.message for heard in self.chunks[begin:]]
        stamps_ns = [stamp_to_ns(chunk.header.stamp) for chunk in chunks]
        assert_stamps_increase(stamps_ns, "chunk")
        for chunk in chunks:
            assert tuple(chunk.joint_names) == self.robot.joint_names
            positions = np.array([point.positions for point in chunk.points])
            assert positions.shape == (20, len(self.robot.joints))
            assert np.isfinite(positions).all()
