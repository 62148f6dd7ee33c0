"""All processes over real DDS: the simulated robot under an untrained policy, from its images to its commands."""

import signal
from dataclasses import dataclass

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from support.bringup_processes import PATIENT
from support.node_bench import BEST_EFFORT, LATCHED, Bench, Heard, Program, rungs_of, set_points, state_of
from support.soundness import assert_sound
from support.stand_ins import Witness
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.images import mask_from_message, rgb_from_message
from maskact_ros.nodes.ros.messages import features_from_message, stamp_to_ns

NODES = ("sim_robot", "camera_encoder", "inference", "action_publisher")


@dataclass
class Run:
    bench: Bench
    programs: dict[str, Program]
    witness: Witness
    chunks: list
    anchors: list[int]  # the commands after which it was enabled again: from rest, it begins at the measured pose

    @property
    def probe(self):
        return self.bench.probe

    def move(self) -> None:
        if self.witness.commands and not state_of(self.witness.states[-1])["enabled"]:
            self.witness.wait_for_rest()
            self.anchors.append(len(self.witness.commands) - 1)
        assert self.probe.enable().success
        self.witness.wait_for_rung("following")


def stamp_of(heard: Heard) -> int:
    return stamp_to_ns(heard.message.header.stamp)


@pytest.fixture(scope="module")
def run(module_bench):
    probe = module_bench.probe
    witness = Witness(probe)
    chunks = probe.hear(JointTrajectory, "action_chunk")
    programs = {name: module_bench.start(name, **PATIENT.get(name, {})) for name in NODES}
    for name, program in programs.items():
        module_bench.wait_until_active(name, program)
    yield Run(module_bench, programs, witness, chunks, [])
    for name, program in programs.items():
        assert "Traceback" not in program.output, name


def test_chunks_come_but_nothing_is_commanded_before_it_is_enabled(run):
    run.probe.wait(lambda: len(run.chunks) >= 3, "chunks")
    assert state_of(run.witness.wait_for_rung("idle"))["reason"] == "not enabled yet"
    assert not run.witness.commands


def test_an_image_becomes_features_mask_overlay_and_confidence_of_the_same_moment_frame_and_size(run, robot, policy):
    kinds = {
        "image_raw": Image,
        "features": CompressedImage,
        "mask": Image,
        "mask_overlay": Image,
        "mask_confidence": Image,
    }
    with run.probe.hearing(kinds, BEST_EFFORT) as heard:

        def stamps_on_all() -> set[int]:
            return set.intersection(*({stamp_of(each) for each in messages} for messages in heard.values()))

        stamp_ns = max(run.probe.wait(stamps_on_all, "one image on all topics"))
        image, features, mask, overlay, confidence = (
            next(each.message for each in messages if stamp_of(each) == stamp_ns) for messages in heard.values()
        )
    camera = robot.only_camera
    for message, encoding in ((image, "rgb8"), (mask, "mono8"), (overlay, "rgb8"), (confidence, "32FC1")):
        assert (message.width, message.height, message.encoding) == (camera.width, camera.height, encoding)
        assert message.header.frame_id == camera.name
    assert features.header.frame_id == camera.name
    encoded = features_from_message(features)
    assert encoded.features.shape == (4, 32)
    assert encoded.weights_hash == CheckpointInfo.read(policy).weights_hash
    assert mask_from_message(mask).max() < 3
    probabilities = np.frombuffer(confidence.data, np.float32)
    assert probabilities.min() >= 1 / 3 - 1e-6
    assert probabilities.max() <= 1.0
    assert (rgb_from_message(overlay) != rgb_from_message(image)).any()


def test_a_chunk_names_the_joints_its_image_and_growing_times(run, robot):
    with run.probe.hearing({"image_raw": Image}, BEST_EFFORT) as heard:
        known = len(run.chunks)

        def of_heard_images() -> list[JointTrajectory]:
            stamps = {stamp_of(image) for image in heard["image_raw"]}
            return [chunk.message for chunk in run.chunks[known:] if stamp_of(chunk) in stamps]

        run.probe.wait(lambda: len(of_heard_images()) >= 3, "three chunks with the stamps of images")
    for chunk in of_heard_images():
        assert tuple(chunk.joint_names) == robot.joint_names
        times = [point.time_from_start.sec + point.time_from_start.nanosec / 1e9 for point in chunk.points]
        assert len(times) == 20
        assert (np.diff([0.0, *times]) > 0).all()
        assert times[-1] == pytest.approx(20 / robot.policy_rate_hz, abs=1e-6)


def test_enabled_it_commands_at_100_hz(run):
    run.move()
    run.witness.assert_rate(100.0, commands=200)


def test_the_simulated_arm_goes_where_it_is_commanded(bench, robot):
    witness = Witness(bench.probe)
    joints = bench.probe.hear(JointState, "joint_states")
    for node in ("sim_robot", "expert", "action_publisher"):  # the expert's motions run into nothing
        bench.start_active(node)
    bench.probe.wait(lambda: bench.probe.enable().success, "joint states to reach the publisher")
    witness.wait_for_rung("following")
    witness.wait_for_commands(200)
    known = len(joints)
    bench.probe.wait(lambda: len(joints) >= known + 100, "joint states")
    assert all(tuple(joint.message.name) == robot.joint_names for joint in joints)
    at_s = joints[-1].at_s
    before = [command for command in witness.commands if at_s - 0.5 < command.at_s < at_s]
    distance = np.abs(set_points(before) - np.array(joints[-1].message.position)).min(axis=0)
    assert (distance[~robot.grippers] < 0.1).all()  # fingers may hold something
    assert np.ptp(set_points(witness.commands), axis=0).max() > 0.3


def test_disabled_it_comes_to_rest_and_repeats_its_last_set_point(run):
    run.move()
    assert run.probe.enable(False).success
    run.witness.wait_for_rung("disabled")
    run.witness.wait_for_rest()
    run.witness.assert_still(100)


def test_each_enabling_and_each_reset_is_an_epoch_and_the_arm_moves_again(run):
    assert run.probe.enable(False).success
    run.witness.wait_for_rung("disabled")
    run.witness.wait_for_rest()
    epochs = [state_of(run.witness.states[-1])["epoch"]]
    run.move()
    epochs.append(state_of(run.witness.states[-1])["epoch"])
    known = len(run.witness.states)
    assert run.probe.reset("action_publisher").success
    run.probe.wait(lambda: len(run.witness.states) > known, "the reset")
    run.witness.wait_for_rung("following")
    epochs.append(state_of(run.witness.states[-1])["epoch"])
    assert epochs == [epochs[0], epochs[0] + 1, epochs[0] + 2]


def test_a_reset_of_inference_makes_it_plan_from_the_next_image(run):
    known = len(run.chunks)
    assert run.probe.reset("inference").success
    run.probe.wait(lambda: len(run.chunks) > known, "a chunk")


def test_the_latched_state_is_the_last_one_that_was_said(run):
    late = run.probe.hear(String, "state", LATCHED)
    run.probe.wait(lambda: late, "the latched state")
    assert late[-1].message == run.witness.states[-1].message
    assert all(set(state_of(state)) == {"rung", "epoch", "enabled", "reason"} for state in run.witness.states)


FIGURES = {
    "sim_robot": {"images_hz", "joint_states_hz", "render_ms_p50"},
    "camera_encoder": {"images_hz", "features_hz", "encoder_ms_p99", "mask_head_ms_p95", "features_age_ms_p50"},
    "inference": {"features_hz", "chunks_hz", "plan_ms_p50", "plan_ms_p95", "plan_ms_p99", "chunk_age_ms_p50"},
    "action_publisher": {
        *("commands_hz", "chunks_hz", "image_to_command_ms_p95"),
        *("deadline_misses", "targets_clamped", "rung", "epoch"),
    },
}


def test_every_node_tells_its_figures_each_second(run):
    run.move()
    for node, figures in FIGURES.items():
        told = run.probe.wait_for_report(node, lambda r, f=figures: f <= r.values.keys(), f"{figures} of {node}")
        assert told.values["state"] == "active"
    known = {node: len(run.probe.reports(node)) for node in FIGURES}

    def told_again() -> bool:
        return all(len(run.probe.reports(node)) >= count + 2 for node, count in known.items())

    run.probe.wait(told_again, "two more reports of each", within_s=10.0)


def test_when_inference_is_killed_the_rest_of_the_chunk_is_followed_and_then_it_is_a_fault(run, robot):
    run.move()
    known = len(run.witness.states)
    run.programs["inference"].send(signal.SIGKILL)
    held = run.witness.wait_for_rung("fault")
    assert state_of(held)["reason"] == "inference is gone; reset and enable to go on"
    run.probe.wait_for_problem("action_publisher", "fault: inference is gone; reset and enable to go on")
    chunk_end_s = stamp_of(run.chunks[-1]) / 1e9 + 20 / robot.policy_rate_hz
    assert held.sent_ns / 1e9 > chunk_end_s, "it was a fault before the chunk's end"
    rungs = rungs_of(run.witness.states[known:])
    assert "following" not in rungs
    assert rungs[-1] == "fault"
    run.witness.wait_for_rest()
    run.witness.assert_still(50)


def test_every_command_of_the_run_was_finite_and_within_the_limits_of_position_velocity_and_acceleration(run, robot):
    assert len(run.witness.commands) > 500, "this test must be the last of the module"
    positions = set_points(run.witness.commands)
    moves = [anchor + np.argmax((positions[anchor:] != positions[anchor]).any(axis=1)) for anchor in run.anchors]
    assert len(moves) > 0
    assert_sound(run.witness.commands, robot, breaks=moves)
    for move in moves:
        assert np.abs(positions[move] - positions[move - 1]).max() < 0.05  # gravity pulls the arm off its set point


def test_the_stamps_of_chunks_increase(run):
    stamps = [stamp_of(chunk) for chunk in run.chunks]
    assert len(stamps) > 10
    assert (np.diff(stamps) > 0).all()
