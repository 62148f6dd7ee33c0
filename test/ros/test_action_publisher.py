"""The action publisher between a stand-in planner and a stand-in arm: when it moves, how, and when it does not."""

from dataclasses import dataclass

import numpy as np
import pytest
from bench import LATCHED, Bench, Program, assert_a_motion_the_robot_can_follow, set_points, state_of
from stand_ins import Arm, Planner, shuffled, silent, with_a_nan, without_the_last_joint
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory


@dataclass
class Rig:
    bench: Bench
    publisher: Program
    arm: Arm
    planner: Planner

    @property
    def probe(self):
        return self.bench.probe

    def engage(self) -> None:
        """Enable, and move for the next ten seconds."""
        assert self.probe.enable().success
        self.arm.wait_for_rung("engaging")
        self.planner.send(self.planner.swing(10.0))
        self.arm.wait_for_rung("following")


@pytest.fixture
def rig(bench, robot):
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    publisher = bench.start_active("action_publisher", joint_states_timeout_s=1.0)
    bench.probe.wait(lambda: arm.states, "the latched state")
    yield Rig(bench, publisher, arm, planner)
    assert "Traceback" not in publisher.output
    if arm.commands:
        assert_a_motion_the_robot_can_follow(set_points(arm.commands), robot)


def test_it_is_silent_until_it_is_enabled_even_when_chunks_come(rig):
    rig.planner.send(rig.planner.swing(2.0))
    rig.probe.wait_for_report("action_publisher", lambda report: report.values.get("chunks_total") == "1", "the chunk")
    rig.probe.wait_for_ok("action_publisher")
    assert not rig.arm.commands
    assert state_of(rig.arm.states[-1]) == {"rung": "idle", "epoch": 0, "enabled": False, "reason": "not enabled yet"}


def test_enabled_it_is_silent_until_a_chunk_comes_that_was_captured_after_that(rig):
    before_ns = rig.probe.now_ns()
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    rig.planner.send(rig.planner.swing(2.0), stamp_ns=before_ns)
    rig.probe.wait_for_report(
        "action_publisher", lambda report: report.values.get("chunks_out_of_date") == "1", "the old chunk's refusal"
    )
    assert not rig.arm.commands
    assert state_of(rig.arm.states[-1])["rung"] == "engaging"
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")
    rig.arm.wait_for_commands(10)


def test_it_commands_at_the_control_rate_for_five_seconds(rig):
    rig.engage()
    rig.arm.wait_for_commands(1)
    commands = rig.arm.wait_for_commands(520)
    rate_hz = (len(commands) - 1) / (commands[-1].at_s - commands[0].at_s)
    assert rate_hz == pytest.approx(100.0, rel=0.05)


def test_it_begins_where_the_arm_is_and_arrives_where_the_chunk_ends(rig):
    target = rig.arm.robot.lower + 0.7 * (rig.arm.robot.upper - rig.arm.robot.lower)
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    rig.planner.send(np.tile(target, (120, 1)))
    rig.arm.wait_for_rung("holding")
    positions = set_points(rig.arm.commands)
    assert positions[0] == pytest.approx(rig.arm.middle, abs=1e-2)
    assert positions[-1] == pytest.approx(target, abs=1e-6)


def test_wild_chunks_become_a_motion_the_robot_can_follow(rig):
    generator = np.random.default_rng(1)
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    for _ in range(15):  # every fixture's end checks each command
        rig.planner.send(rig.arm.middle + generator.normal(scale=5.0, size=(20, len(rig.arm.middle))))
        rig.arm.wait_for_commands(20)
    positions = set_points(rig.arm.commands)
    assert np.ptp(positions, axis=0).min() > 0.01
    rig.probe.wait_for_report("action_publisher", lambda r: int(r.values.get("targets_clamped", 0)) > 0, "clamps")


def test_when_the_chunk_is_used_up_it_says_so_and_holds(rig):
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    rig.planner.send(rig.planner.swing(0.7))
    rig.arm.wait_for_rung("holding")
    rig.probe.wait_for_problem("action_publisher", "the arm holds: the chunk is used up and no new one has come")
    held = set_points(rig.arm.wait_for_commands(50))
    assert (held == held[0]).all()


def test_disabling_brakes_and_then_repeats_the_last_set_point(rig):
    rig.engage()
    rig.arm.wait_for_commands(50)
    assert rig.probe.enable(False).success
    disabled = state_of(rig.arm.wait_for_rung("disabled"))
    assert not disabled["enabled"]
    assert "disabled" in disabled["reason"]
    rig.arm.wait_for_commands(150)
    held = rig.arm.wait_for_commands(100)
    assert (set_points(held) == held[0].message.data).all()
    assert (len(held) - 1) / (held[-1].at_s - held[0].at_s) == pytest.approx(100.0, rel=0.05)


def test_enabled_again_it_does_not_go_on_with_the_old_chunk(rig):
    rig.engage()
    assert rig.probe.enable(False).success
    rig.arm.wait_for_rung("disabled")
    rig.arm.wait_for_commands(100)
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    held = set_points(rig.arm.wait_for_commands(50))
    assert (held == held[0]).all()
    assert state_of(rig.arm.states[-1])["rung"] == "engaging"
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")


def test_a_reset_opens_an_epoch_and_forgets_the_plan(rig):
    rig.engage()
    epoch = state_of(rig.arm.states[-1])["epoch"]
    assert rig.probe.reset("action_publisher").success
    engaging = state_of(rig.arm.wait_for_rung("engaging"))
    assert engaging["epoch"] == epoch + 1
    assert engaging["enabled"]
    rig.arm.wait_for_commands(100)
    held = set_points(rig.arm.wait_for_commands(20))
    assert (held == held[0]).all()


def test_who_comes_late_is_told_the_state(rig):
    rig.engage()
    late = rig.probe.hear(String, "state", LATCHED)
    rig.probe.wait(lambda: late, "the latched state")
    assert late[-1].message == rig.arm.states[-1].message


def _nan(message: JointTrajectory) -> None:
    message.points[3].positions[1] = float("nan")


def _wrong_names(message: JointTrajectory) -> None:
    message.joint_names[2] = "ellbow"


def _empty(message: JointTrajectory) -> None:
    message.points = []


def _short_point(message: JointTrajectory) -> None:
    message.points[2].positions = message.points[2].positions[:-1]


def _uneven_times(message: JointTrajectory) -> None:
    message.points[5].time_from_start.nanosec += 5


def _from_the_future(message: JointTrajectory) -> None:
    message.header.stamp.sec += 3600


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_nan, "the position of shoulder_lift is not finite"),
        (_wrong_names, "the joints elbow are missing"),
        (_empty, "the chunk has no points"),
        (_short_point, "7 joint names but 6 positions"),
        (_uneven_times, "the chunk's times are not period"),
        (_from_the_future, "the chunk is from the future"),
    ],
)
def test_a_spoilt_chunk_is_named_and_never_followed(rig, spoil, sentence):
    assert rig.probe.enable().success
    rig.arm.wait_for_rung("engaging")
    spoilt = rig.planner.message(rig.planner.swing(2.0))
    spoil(spoilt)
    rig.planner.send_message(spoilt)
    rig.probe.wait_for_problem("action_publisher", sentence)
    assert sentence in rig.publisher.output
    assert not rig.arm.commands
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")
    rig.probe.wait_for_ok("action_publisher")


def test_joint_states_are_matched_by_name(rig):
    rig.arm.alter = shuffled
    rig.engage()
    rig.arm.wait_for_commands(20)
    positions = set_points(rig.arm.commands)
    assert positions[0] == pytest.approx(rig.arm.middle, abs=1e-2)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (without_the_last_joint, "joint_states is refused: the joints gripper are missing"),
        (with_a_nan, "joint_states is refused: the position of elbow is not finite"),
        (silent, "no joint states for 1 s"),
    ],
)
def test_without_usable_joint_states_a_moving_arm_holds_and_goes_on_when_they_are_back(rig, fault, sentence):
    rig.engage()
    rig.arm.alter = fault
    assert "no joint states for 1 s" in state_of(rig.arm.wait_for_rung("holding"))["reason"]
    rig.probe.wait_for_problem("action_publisher", sentence)
    assert sentence in rig.publisher.output
    rig.arm.wait_for_commands(150)
    held = set_points(rig.arm.wait_for_commands(20))
    assert (held == held[0]).all()
    rig.arm.alter = lambda message: message
    rig.planner.send(rig.planner.swing(5.0))
    rig.arm.wait_for_rung("following")


@pytest.mark.parametrize("fault", [without_the_last_joint, with_a_nan, silent])
def test_without_usable_joint_states_it_cannot_be_enabled(bench, robot, fault):
    arm = Arm(bench.probe, robot)
    arm.alter = fault
    bench.start_active("action_publisher")
    response = bench.probe.enable()
    assert not response.success
    assert "no usable joint states on /maskact/joint_states" in response.message
    assert not arm.commands
