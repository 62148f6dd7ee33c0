"""NaN, infinities, 1e308 and wrong sizes in each stream: none comes out, one line says so, the next good is used."""

import itertools
import re

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from support.fault_rig import Rig
from support.garbage import SPOILT, in_chunk, in_features, in_image, in_joint_states
from support.node_bench import BEST_EFFORT
from support.proxy import altered
from support.soundness import story
from support.vision import Vision


@pytest.fixture(scope="module")
def running(module_bench, robot):
    rig = Rig.start(module_bench, robot, hold_timeout_s=60.0)
    yield rig
    rig.close()


@pytest.fixture
def rig(running):
    running.move()
    yield running
    running.settle()
    running.assert_never_an_older_plan()


def errors(log: str, text: str) -> list[str]:
    return [line for line in log.splitlines() if text in line and "solved" not in line]


@pytest.mark.parametrize("stream", ["chunk", "joint state"])
def test_garbage_does_not_come_out_of_the_publisher(rig, phase, stream):
    what = phase.pick(SPOILT)
    phase.let_it_move()
    known, said = len(rig.arm.states), len(rig.publisher.output)
    spoilt = rig.chunks if stream == "chunk" else rig.joints
    spoil = in_chunk(what, phase.random) if stream == "chunk" else in_joint_states(what, phase.random)
    spoilt.fault = altered(spoil)
    sentence = "the chunk" if stream == "chunk" else "joint_states is refused"
    rig.wait_for_line(sentence, said)
    rig.arm.wait_for_commands(200)
    assert len(errors(rig.publisher.output[said:], sentence)) <= 2, rig.publisher.output[said:]
    assert set(rig.rungs_since(known)) <= {"remaining", "decelerating", "holding"}
    rig.heal()
    rig.arm.wait_for_rung("following")
    rig.probe.wait_for_ok("action_publisher")


@pytest.mark.extended
@pytest.mark.parametrize("stream", ["chunk", "joint state"])
def test_single_spoilt_messages_change_nothing_but_the_log(rig, phase, stream):
    what = phase.pick(SPOILT)
    phase.let_it_move()
    known, said = len(rig.arm.states), len(rig.publisher.output)
    spoilt = rig.chunks if stream == "chunk" else rig.joints
    spoil = in_chunk(what, phase.random) if stream == "chunk" else in_joint_states(what, phase.random)
    # One in ten joint states: a newer one, that is good, may take the place of any one before the publisher looks.
    every = 10 if stream == "joint state" else 5
    single = itertools.cycle([spoil, *[lambda _: None] * (every - 1)])
    spoilt.fault = altered(lambda message: next(single)(message))
    rig.wait_for_line("joint_states is refused" if stream == "joint state" else "the chunk", said)
    rig.heal()
    rig.arm.wait_for_commands(50)
    assert rig.rungs_since(known) == [], story(rig.arm.states[known:])
    rig.probe.wait_for_ok("action_publisher")


@pytest.fixture(scope="module")
def vision(tmp_path_factory, policy, robot):
    with Vision.start(tmp_path_factory.mktemp("vision"), policy, robot) as opened:
        yield opened


@pytest.fixture
def healthy_vision(vision):
    vision.heal()
    vision.wait_for_chunks(2)
    for node in vision.programs:
        vision.probe.wait_for_ok(node)  # what is wrong still, or was a moment ago, is not said again
    yield vision
    vision.heal()
    for program in vision.programs.values():
        assert program.running
        assert "Traceback" not in program.output, program.output


@pytest.mark.extended
@pytest.mark.parametrize("stream", ["image", "features", "joint state"])
def test_garbage_does_not_come_out_of_encoder_and_inference(healthy_vision, phase, stream):
    vision = healthy_vision
    what = phase.pick(SPOILT)
    proxied = {"image": vision.images, "features": vision.features, "joint state": vision.joints}[stream]
    spoil = {"image": in_image, "features": in_features, "joint state": in_joint_states}[stream]
    node = "camera_encoder" if stream == "image" else "inference"
    said = len(vision.programs[node].output)
    features = vision.probe.hear(CompressedImage, "features", BEST_EFFORT)
    proxied.fault = altered(spoil(what, phase.random))
    vision.probe.wait(lambda: "[ERROR]" in vision.programs[node].output[said:], f"{node} to refuse {what}", 5.0)
    vision.let_pictures_pass(5)  # what was under way
    known, encoded = len(vision.chunks), len(features)
    vision.let_pictures_pass(30)
    assert len(vision.chunks) == known, f"a chunk was made of {what} in {stream}"
    if stream == "image":
        assert len(features) == encoded
    lines = [line for line in vision.programs[node].output[said:].splitlines() if "[ERROR]" in line]
    said_s = [float(re.search(r"\[(\d+\.\d+)\]", line)[1]) for line in lines]
    assert len(lines) <= 2 * (1 + said_s[-1] - said_s[0]), lines  # of two topics, a line a second at most
    vision.heal()
    vision.wait_for_chunks(2)
    for heard in vision.chunks[known:]:
        assert np.isfinite([point.positions for point in heard.message.points]).all()
