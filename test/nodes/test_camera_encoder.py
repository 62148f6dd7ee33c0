"""The camera encoder before a stand-in camera: what it makes of pictures, and says of those it cannot use."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from support.asking import ask
from support.node_bench import BEST_EFFORT, RELIABLE, Probe, Program
from support.stand_ins import Camera, healthy, silent

from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.observation.engine_parameters import threads_here
from maskact_ros.nodes.ros.messages import features_from_message, image_to_message, ns_to_stamp, stamp_to_ns
from maskact_ros.nodes.ros.publishers import silence_of

HOUR_S = 3600


@pytest.fixture(scope="module")
def running(module_bench, robot):
    camera = Camera(module_bench.probe, robot)
    features = module_bench.probe.hear(CompressedImage, "features", BEST_EFFORT)
    return camera, features, module_bench.start_active("camera_encoder")


@pytest.fixture
def camera(running):
    running[0].alter = healthy
    return running[0]


@pytest.fixture
def features(running):
    return running[1]


@pytest.fixture
def encoder(running):
    yield running[2]
    assert "Traceback" not in running[2].output


def _smaller(image: Image) -> Image:
    return image_to_message(np.zeros((240, 320, 3), np.uint8), "rgb8", image.header)


def _unknown_encoding(image: Image) -> Image:
    image.encoding = "32FC3"
    return image


def _too_short(image: Image) -> Image:
    image.data = image.data[:1000]
    return image


def _cut_off(image: Image) -> bytes:
    """What no driver sends: the message ends amid its data."""
    return serialize_message(image)[:1000]


def _an_hour_old(image: Image) -> Image:
    image.header.stamp.sec -= HOUR_S
    return image


def _an_hour_ahead(image: Image) -> Image:
    image.header.stamp.sec += HOUR_S
    return image


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        (silent, ("no image on /maskact/image_raw for 1 s (1 publishers there)",)),
        (_smaller, ("the camera's image is refused: its size is 320x240", "allowed: 640x480", "the camera top")),
        (_unknown_encoding, ("the camera's image is refused", "32FC3")),
        (_too_short, ("the camera's image is refused", "1000")),
        (_cut_off, ("the camera's image is refused: what came is no Image (it ends before its data do)",)),
        (_an_hour_old, ("s old by the robot's clock", "allowed: 0 to 1 s", "set stamp_source to receipt")),
        (_an_hour_ahead, ("the image's stamp is -3", "allowed: 0 to 1 s", "set stamp_source to receipt")),
    ],
)
def test_a_picture_that_cannot_be_used_is_named_and_gives_no_features(
    module_bench, camera, features, encoder, fault, texts
):
    probe = module_bench.probe
    probe.wait_for_ok("camera_encoder")
    camera.alter = fault
    probe.wait_for_problem("camera_encoder", *texts)
    assert any(all(text in line for text in texts) and "[ERROR]" in line for line in encoder.output.splitlines())
    known = len(features)
    probe.wait_for_report("camera_encoder", lambda report: texts[0] in report.message, "the next report")
    assert len(features) == known
    camera.alter = healthy
    probe.wait_for_ok("camera_encoder")
    probe.wait(lambda: len(features) > known, "features of good pictures")


def _all_of_one_stamp():
    stamps = []

    def alter(image: Image) -> Image:
        stamps.append(image.header.stamp)
        image.header.stamp = stamps[0]
        return image

    return alter


def _mostly_of_another_camera():
    """Two of three are of a camera whose stamps lie 0.3 s behind the other's."""
    count = [0]

    def alter(image: Image) -> Image:
        count[0] += 1
        if count[0] % 3:
            image.header.stamp = ns_to_stamp(stamp_to_ns(image.header.stamp) - 300_000_000)
        return image

    return alter


@pytest.mark.parametrize(
    ("fault", "texts", "total"),
    [
        (_all_of_one_stamp, ("images are not used: all have the stamp of the one before", "stamp_source"), True),
        (
            _mostly_of_another_camera,
            ("images are not used: they were taken 0.", "do two cameras send on /maskact/image_raw (1 publishers)?"),
            False,
        ),
    ],
)
def test_a_camera_whose_images_are_dropped_one_after_the_other_is_told_why(
    module_bench, camera, features, encoder, fault, texts, total
):
    probe = module_bench.probe
    assert ask(probe, "camera_encoder", max_image_age_s=60.0).successful
    probe.wait_for_ok("camera_encoder")
    camera.alter = fault()
    _wait_until_told(probe, encoder, *texts)
    known = len(features)
    probe.wait_for_problem("camera_encoder", *texts)
    assert (len(features) == known) == total
    camera.alter = healthy
    probe.wait_for_ok("camera_encoder")
    assert ask(probe, "camera_encoder", max_image_age_s=1.0).successful


def test_features_say_since_when_the_camera_has_sent_the_same_picture(module_bench, camera, features, encoder):
    shade = [0]

    def another(image: Image) -> Image:
        shade[0] += 1
        image.data[0] = shade[0] % 256
        return image

    def content_ages_ns(count: int) -> list[int]:
        known = len(features)
        module_bench.probe.wait(lambda: len(features) >= known + count, "features")
        seen = [features_from_message(heard.message) for heard in features[known:]]
        return [each.stamp_ns - each.content_stamp_ns for each in seen]

    same = content_ages_ns(10)
    assert same == sorted(same)
    assert same[-1] > 0
    camera.alter = another
    content_ages_ns(5)
    assert set(content_ages_ns(10)) == {0}


def test_a_mask_that_is_unsure_or_changes_suddenly_is_reported_and_by_parameter_not_sent(
    module_bench, camera, features, encoder
):
    probe = module_bench.probe
    values = probe.wait_for_report("camera_encoder", lambda report: True, "a report").values
    shares = [float(values[f"mask_share_{name}"]) for name in ("background", "robot", "object")]
    assert abs(sum(shares) - 1.0) < 0.01
    assert 0.0 < float(values["mask_confidence"]) <= 1.0
    assert float(values["mask_change"]) == 0.0
    for parameters, sentence in (
        ({"mask_min_confidence": 1.0}, "no features are sent: the mask's mean confidence is"),
        (
            {"mask_max_change": 0.0, "mask_importance_weights": _other_weights(shares)},
            "no features are sent: the classes",
        ),
    ):
        assert ask(probe, "camera_encoder", **parameters).successful
        probe.wait_for_problem("camera_encoder", sentence)
        known = len(features)
        report = probe.wait_for_problem("camera_encoder", sentence)
        assert len(features) == known
        assert int(report.values["features_withheld"]) > 0
        off = {"mask_min_confidence": 0.0, "mask_max_change": 1.0, "mask_importance_weights": "none"}
        assert ask(probe, "camera_encoder", **off).successful
        probe.wait(lambda known=known: len(features) > known, "features")
        probe.wait_for_ok("camera_encoder")


def test_a_mask_that_has_changed_for_good_is_acted_on_once_the_node_is_activated_anew(
    module_bench, camera, features, encoder
):
    probe = module_bench.probe
    values = probe.wait_for_report("camera_encoder", lambda report: True, "a report").values
    weights = _other_weights([float(values[f"mask_share_{name}"]) for name in ("background", "robot", "object")])
    assert ask(probe, "camera_encoder", mask_max_change=0.0, mask_importance_weights=weights).successful
    probe.wait_for_problem("camera_encoder", "no features are sent: the classes", "activate camera_encoder")
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert probe.call(ChangeState, "camera_encoder/change_state", request).success
    known = len(features)
    probe.wait(lambda: len(features) > known, "features")
    probe.wait_for_ok("camera_encoder")
    assert ask(probe, "camera_encoder", mask_max_change=1.0, mask_importance_weights="none").successful


def _other_weights(shares: list[float]) -> list[float]:
    """Weights under which the class that covers least wins everywhere."""
    return [10.0 if i == int(np.argmin(shares)) else 0.0 for i in range(len(shares))]


def test_features_have_the_stamp_of_their_picture_and_come_in_order(module_bench, camera, features, encoder):
    known = len(features)
    module_bench.probe.wait(lambda: len(features) >= known + 10, "features")
    stamps = [stamp_to_ns(heard.message.header.stamp) for heard in features]
    assert (np.diff(stamps[known:]) > 0).all()
    assert set(stamps[known:]) <= set(camera.stamps_ns)


def test_the_overlay_is_drawn_only_while_somebody_looks(module_bench, camera, encoder):
    def drawn() -> int:
        """How many overlays there were, by the next report."""
        report = module_bench.probe.wait_for_report("camera_encoder", lambda report: True, "a report")
        return int(report.values.get("overlay_total", 0))

    with module_bench.probe.hearing({"mask_overlay": Image}, BEST_EFFORT) as seen:
        module_bench.probe.wait(lambda: seen["mask_overlay"], "an overlay")
    module_bench.probe.wait(lambda: not module_bench.probe.node.count_subscribers("mask_overlay"), "the viewer to go")
    drawn()  # one may still have been in work
    before = drawn()
    assert before > 0
    assert drawn() == before


def test_stamped_at_receipt_a_camera_with_another_clock_can_be_used(bench, robot):
    camera = Camera(bench.probe, robot)
    camera.alter = _an_hour_old
    features = bench.probe.hear(CompressedImage, "features", BEST_EFFORT)
    masks = bench.probe.hear(Image, "mask", BEST_EFFORT)
    bench.start_active("camera_encoder", stamp_source="receipt")
    bench.probe.wait(lambda: len(features) >= 5 and len(masks) >= 5, "features and masks")
    for heard in (features[-1], masks[-1]):
        age_s = (bench.probe.now_ns() - stamp_to_ns(heard.message.header.stamp)) / 1e9
        assert 0.0 < age_s < 60.0
    assert features_from_message(features[-1].message).features.shape == (4, 32)


def test_compressed_images_are_encoded_and_features_sent_reliably_if_the_parameters_say_so(bench, robot):
    probe = bench.probe
    features = probe.hear(CompressedImage, "features", RELIABLE)  # which best effort would not reach
    images = probe.publisher(CompressedImage, "image_raw", BEST_EFFORT)
    camera = robot.only_camera
    jpeg = cv2.imencode(".jpg", np.full((camera.height, camera.width, 3), 100, np.uint8))[1]

    def capture() -> None:
        message = CompressedImage(format="jpeg", data=jpeg.tobytes())
        message.header.stamp = ns_to_stamp(probe.now_ns())
        images.publish(message)

    probe.every(1 / 10, capture)
    bench.start_active("camera_encoder", compressed=True, features_reliable=True)
    probe.wait(lambda: len(features) >= 3, "features of compressed images")
    assert features_from_message(features[-1].message).features.size > 0


# A program: a camera that sends raw images, but none now. Fast DDS lets no process have a topic of two types.
RAW_CAMERA = """
import sys
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
node.create_publisher(Image, sys.argv[1], 1)
rclpy.spin(node)
"""
JPEG_OF = {"grey": (".jpg", np.uint8, 1), "colour": (".jpg", np.uint8, 3), "depth": (".png", np.uint16, 1)}


@dataclass
class CompressedCamera:
    """Sends compressed pictures at 10 Hz: grey, colour or depth, under any format."""

    probe: Probe
    robot: RobotSpec
    topic: str
    sends: tuple[str, str] | None = None  # what, and the format

    def __post_init__(self) -> None:
        self._images = self.probe.publisher(CompressedImage, self.topic, BEST_EFFORT)
        self.probe.every(0.1, self._capture)

    def _capture(self) -> None:
        if self.sends is None:
            return
        (suffix, dtype, channels), camera = JPEG_OF[self.sends[0]], self.robot.only_camera
        samples = np.full((camera.height, camera.width, channels), 1234, np.uint16).astype(dtype)
        message = CompressedImage(format=self.sends[1], data=cv2.imencode(suffix, samples)[1].tobytes())
        message.header.stamp = ns_to_stamp(self.probe.now_ns())
        self._images.publish(message)


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({}, " (0 publishers there); is the camera's driver running"),
        ({"a/msg/A": 3}, " (3 publishers there)"),
        ({"a/msg/A": 1, "b/msg/B": 2}, " (1 publishers there; others there send b/msg/B)"),
        ({"b/msg/B": 1}, ": it carries b/msg/B; turn it round"),
        ({"c/msg/C": 1, "b/msg/B": 1}, ": it carries b/msg/B, c/msg/C; turn it round"),
        ({"c/msg/C": 2}, ": it carries c/msg/C; allowed: a/msg/A"),
    ],
)
def test_who_is_there_tells_why_a_topic_is_silent(counts, why):
    assert silence_of(counts, "a/msg/A", {"b/msg/B": "turn it round"}).startswith(why)


def _wait_until_told(probe: Probe, encoder: Program, *texts: str) -> None:
    """On /diagnostics, and in a line of the log, which has one a second of the same thing."""
    probe.wait_for_problem("camera_encoder", *texts)

    def logged() -> bool:
        lines = encoder.output.splitlines()
        return any("[ERROR]" in line and all(text in line for text in texts) for line in lines)

    probe.wait(logged, f"the log's line with {texts}")


@pytest.mark.extended
def test_a_silent_topic_is_told_by_its_remapped_name_with_who_publishes_there_and_what(bench, robot):
    probe, topic = bench.probe, "/cell/front/picture"
    features = probe.hear(CompressedImage, "features", BEST_EFFORT)
    encoder = bench.start_active("camera_encoder", compressed=True, remappings={"image_raw": topic})
    silence = f"no image on {topic} for 1 s"
    _wait_until_told(probe, encoder, f"{silence} (0 publishers there)")
    raw = bench.run([sys.executable, "-c", RAW_CAMERA, topic])
    _wait_until_told(probe, encoder, f"{silence}: it carries sensor_msgs/msg/Image; set compressed: false")
    raw.send(signal.SIGINT)
    raw.wait()
    camera = CompressedCamera(probe, robot, topic)
    _wait_until_told(probe, encoder, f"{silence} (1 publishers there)")
    for sends, texts in (
        (("depth", "16UC1; png compressed "), ("of format '16UC1; png compressed ' carry depth",)),
        (("depth", "png"), ("a grey picture of 16 bits, which is depth unless the format says mono16",)),
        (("grey", "yuv422; jpeg compressed mono8"), ("are grey", "own pictures are yuv422: the colour was lost")),
        (("grey", "bgr8; jpeg compressed bgr8"), ("are grey", "own pictures are bgr8: the colour was lost")),
    ):
        camera.sends = sends
        _wait_until_told(probe, encoder, "the camera's image is refused: image: ", *texts)
        assert not features
    for sends in (("grey", "mono8; jpeg compressed mono8"), ("colour", "yuv422; jpeg compressed bgr8")):
        known, camera.sends = len(features), sends
        probe.wait(lambda known=known: len(features) > known + 2, "features")
        probe.wait_for_ok("camera_encoder")
        features.clear()


@pytest.mark.extended
def test_raw_images_that_come_compressed_are_told_with_the_parameter_to_set(bench, robot):
    CompressedCamera(bench.probe, robot, "image_raw", ("colour", "jpeg"))
    bench.start_active("camera_encoder")
    text = "no image on /maskact/image_raw for 1 s: it carries sensor_msgs/msg/CompressedImage; set compressed: true"
    bench.probe.wait_for_problem("camera_encoder", text)


def test_what_the_encoder_runs_on_is_said(module_bench, encoder):
    report = module_bench.probe.wait_for_report("camera_encoder", lambda report: "engine" in report.values, "a report")
    assert report.values["engine"].startswith("torch, fp32, cpu, ")
    assert f"the encoder runs on {report.values['engine']}" in encoder.output


@pytest.mark.extended
@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"backend": "caffe"}, "backend is 'caffe'; allowed: auto, torch, onnxruntime"),
        ({"precision": "fp64"}, "precision is 'fp64'; allowed: fp32, bf16, fp16, int8"),
        ({"backend": "torch", "precision": "int8"}, "precision is 'int8' with the backend torch; allowed: fp32, bf16"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
    ids=str,
)
def test_an_engine_that_does_not_exist_is_refused_by_name(bench, parameters, sentence):
    program = bench.start("camera_encoder", **parameters)
    assert program.wait(within_s=60.0) == 1
    assert sentence in program.output
    assert "Traceback" not in program.output


def test_as_many_threads_compute_as_the_process_may_use_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 8, 9})
    assert threads_here() == 3


@pytest.mark.parametrize("node", ["camera_encoder", "inference"])
def test_threads_that_wait_for_work_sleep_unless_the_user_says_otherwise(node):
    script = (
        f"import os, sys; from maskact_ros.nodes import {node} as node; assert 'torch' not in sys.modules; "
        "node.main = lambda _: print(os.environ['OMP_WAIT_POLICY']); node.run()"
    )
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        assert done.stdout.strip() == expected
