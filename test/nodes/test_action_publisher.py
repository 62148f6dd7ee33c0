"""The action publisher between a stand-in planner and a stand-in arm: when it moves, how, and when it does not."""

import signal
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String
from support.node_bench import LATCHED, Bench, Program, set_points, state_of
from support.soundness import assert_ends_at_rest, assert_sound
from support.stand_ins import Arm, Planner, healthy, shuffled, silent, with_a_nan, without_the_last_joint
from test_peers import ON_DEMAND
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.nodes.ros.messages import ns_to_stamp

# Plans of these tests are old, begin anywhere and ask for anything; what that leads to is for tests of their own.
PATIENT = {
    "joint_states_timeout_s": 1.0,
    "plan_timeout_s": 20.0,
    "engage_tolerance_s": 5.0,
    "clamp_timeout_s": 20.0,
    "hold_timeout_s": 60.0,
    "following_tolerance_s": 0.0,  # the stand-in arm is a thread of a busy process
}


@dataclass
class Rig:
    bench: Bench
    publisher: Program
    arm: Arm
    planner: Planner

    @property
    def probe(self):
        return self.bench.probe

    def enable(self) -> None:
        assert self.probe.enable().success
        self.arm.wait_for_rung("engaging")

    def move(self) -> None:
        """Enable, and swing for the next ten seconds."""
        self.enable()
        self.planner.send(self.planner.swing(10.0))
        self.arm.wait_for_rung("following")
        self.arm.wait_for_commands(30)

    def wait_for_value(self, key: str, value: int) -> None:
        """Wait until a figure of /diagnostics has grown so far."""
        self.probe.wait_for_report("action_publisher", lambda r: int(r.values.get(key, 0)) >= value, f"{key} {value}")


@pytest.fixture(scope="module")
def running(module_bench, robot):
    arm, planner = Arm(module_bench.probe, robot), Planner(module_bench.probe, robot)
    publisher = module_bench.start_active("action_publisher", **PATIENT)
    return Rig(module_bench, publisher, arm, planner)


@pytest.fixture
def rig(running):
    """The running publisher, not enabled; afterwards, every command since is held against the robot's limits."""
    began = len(running.arm.commands)
    yield running
    running.arm.alter = healthy
    running.probe.enable(False)
    running.arm.wait_for_rung("disabled")
    running.arm.wait_for_rest()
    assert "Traceback" not in running.publisher.output
    assert_sound(running.arm.commands[began:], running.arm.robot)


def test_it_is_silent_until_enabled_and_then_until_a_chunk_comes_that_was_captured_after_that(rig):
    assert not rig.arm.commands, "this test must be the first of the module"
    rig.probe.wait(lambda: rig.arm.states, "the latched state")
    assert state_of(rig.arm.states[-1]) == {"rung": "idle", "epoch": 0, "enabled": False, "reason": "not enabled yet"}
    rig.planner.send(rig.planner.swing(2.0))
    rig.wait_for_value("chunks_out_of_date", 1)
    assert not rig.arm.commands
    before_ns = rig.probe.now_ns()
    rig.enable()
    rig.planner.send(rig.planner.swing(2.0), stamp_ns=before_ns)
    rig.wait_for_value("chunks_out_of_date", 2)
    assert not rig.arm.commands
    assert state_of(rig.arm.states[-1])["rung"] == "engaging"
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")
    rig.arm.wait_for_commands(10)


def test_it_commands_at_the_control_rate(rig):
    rig.move()
    rig.arm.assert_rate(100.0, commands=200)


def test_stamped_at_receipt_joint_states_of_any_stamp_move_the_arm_and_their_silence_stops_it(bench, robot):
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    stamps = iter(range(10**9))

    def nonsense(joints: JointState) -> JointState:
        joints.header.stamp = ns_to_stamp(next(stamps) % 4)  # zero, and going back
        return joints

    arm.alter = nonsense
    publisher = bench.start_active("action_publisher", joint_states_stamp_source="receipt", **PATIENT)
    rig = Rig(bench, publisher, arm, planner)
    rig.move()
    arm.wait_for_commands(150)
    assert state_of(arm.states[-1])["rung"] == "following"
    arm.alter = silent
    arm.wait_for_rung("holding")
    assert_sound(arm.commands, robot)


def test_it_begins_where_the_arm_is_and_arrives_where_the_chunk_ends(rig):
    began = len(rig.arm.commands)
    was = set_points(rig.arm.commands[-1:])[0] if began else rig.arm.middle
    target = rig.arm.robot.lower + 0.7 * (rig.arm.robot.upper - rig.arm.robot.lower)
    rig.enable()
    rig.planner.send(np.tile(target, (100, 1)))
    rig.arm.wait_for_rung("holding")
    positions = set_points(rig.arm.commands[began:])
    assert positions[0] == pytest.approx(was, abs=1e-2)
    assert positions[-1] == pytest.approx(target, abs=1e-6)


def test_wild_chunks_become_a_motion_the_robot_can_follow(rig):
    generator = np.random.default_rng(1)
    rig.enable()
    began = len(rig.arm.commands)
    for _ in range(10):
        rig.planner.send(rig.arm.middle + generator.normal(scale=5.0, size=(20, len(rig.arm.middle))))
        rig.arm.wait_for_commands(15)
    assert np.ptp(set_points(rig.arm.commands[began:]), axis=0).min() > 0.01  # the fixture looks at every command
    rig.wait_for_value("targets_clamped", 1)


def test_when_the_chunk_is_used_up_it_says_so_and_holds(rig):
    rig.enable()
    rig.planner.send(rig.planner.swing(0.7))
    rig.arm.wait_for_rung("holding")
    rig.probe.wait_for_problem("action_publisher", "the arm holds: the chunk is used up and no new one has come")
    rig.arm.assert_still(50)


def test_disabling_brakes_and_then_repeats_the_last_set_point(rig):
    rig.move()
    assert rig.probe.enable(False).success
    disabled = state_of(rig.arm.wait_for_rung("disabled"))
    assert not disabled["enabled"]
    assert "disabled" in disabled["reason"]
    rig.arm.wait_for_rest()
    rig.arm.assert_rate(100.0)
    rig.arm.assert_still(100)


def test_enabled_again_it_does_not_go_on_with_the_old_chunk(rig):
    rig.move()
    assert rig.probe.enable(False).success
    rig.arm.wait_for_rung("disabled")
    rig.arm.wait_for_rest()
    rig.enable()
    rig.arm.assert_still(50)
    assert state_of(rig.arm.states[-1])["rung"] == "engaging"
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")


def test_a_reset_opens_an_epoch_and_forgets_the_plan(rig):
    rig.move()
    epoch = state_of(rig.arm.states[-1])["epoch"]
    assert rig.probe.reset("action_publisher").success
    engaging = state_of(rig.arm.wait_for_rung("engaging"))
    assert engaging["epoch"] == epoch + 1
    assert engaging["enabled"]
    rig.arm.wait_for_rest()
    rig.arm.assert_still(20)


def test_who_comes_late_is_told_the_state(rig):
    rig.move()
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
        (_from_the_future, "the chunk is from the future: its stamp is 3"),
    ],
)
def test_a_spoilt_chunk_is_named_and_never_followed(rig, spoil, sentence):
    rig.enable()
    began = len(rig.arm.commands)
    spoilt = rig.planner.message(rig.planner.swing(2.0))
    spoil(spoilt)
    rig.planner.send_message(spoilt)
    rig.probe.wait_for_problem("action_publisher", sentence)
    rig.probe.wait(lambda: sentence in rig.publisher.output, f"the log to say {sentence!r}")
    held = set_points(rig.arm.commands[began:])
    assert (held == held[:1]).all()
    assert state_of(rig.arm.states[-1])["rung"] == "engaging"
    rig.planner.send(rig.planner.swing(2.0))
    rig.arm.wait_for_rung("following")


def test_joint_states_are_matched_by_name(rig):
    rig.arm.alter = shuffled
    rig.move()
    rig.probe.wait_for_ok("action_publisher")
    assert state_of(rig.arm.states[-1])["rung"] == "following"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (without_the_last_joint, "joint_states is refused: the joints gripper are missing"),
        (with_a_nan, "joint_states is refused: the position of elbow is not finite"),
        (silent, "no joint states for 1 s"),
    ],
)
def test_without_usable_joint_states_a_moving_arm_holds_and_goes_on_when_they_are_back(rig, fault, sentence):
    rig.move()
    rig.arm.alter = fault
    assert "no joint states for 1 s" in state_of(rig.arm.wait_for_rung("holding"))["reason"]
    rig.probe.wait_for_problem("action_publisher", sentence)
    rig.probe.wait(lambda: sentence in rig.publisher.output, f"the log to say {sentence!r}")
    rig.arm.wait_for_rest()
    rig.arm.assert_still(20)
    rig.arm.alter = healthy
    rig.planner.send(rig.planner.swing(5.0))
    rig.arm.wait_for_rung("following")


def test_without_usable_joint_states_it_cannot_be_enabled(bench, robot):
    arm = Arm(bench.probe, robot)
    arm.alter = silent
    bench.start_active("action_publisher")
    for fault in (silent, without_the_last_joint, with_a_nan):
        arm.alter = fault
        arm.wait_for_measurements(20)
        response = bench.probe.enable()
        assert not response.success
        assert "no usable joint states within 1 s (/maskact/joint_states)" in response.message
    assert not arm.commands


def test_told_to_end_at_speed_it_keeps_an_end_stop_that_was_tightened(bench, robot):
    lift, end = robot.joint_names.index("shoulder_lift"), 0.6
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    publisher = bench.start_active("action_publisher", **PATIENT, **{"limits.shoulder_lift.upper": end})
    arm.wait_for_measurements(20)
    Rig(bench, publisher, arm, planner).enable()
    target = arm.middle.copy()
    target[lift] = robot.upper[lift]
    planner.send(np.tile(target, (100, 1)))
    bench.probe.wait(lambda: arm.commands and arm.commands[-1].message.data[lift] > end - 0.3, "the arm at speed")
    publisher.send(signal.SIGINT)
    assert publisher.wait() == 0
    assert_sound(arm.commands, robot)
    assert set_points(arm.commands)[:, lift].max() <= end
    assert "still moving" not in publisher.output


def test_while_a_peer_is_gone_a_reset_is_refused_also_before_it_is_a_fault(bench, robot):
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    rig = Rig(bench, bench.start_active("action_publisher", **PATIENT), arm, planner)
    arm.wait_for_measurements(20)
    rig.move()
    bench.probe.publisher(Empty, "inference/alive", ON_DEMAND)
    bench.probe.wait(lambda: "inference gave no sign of life" in rig.publisher.output, "inference to be missed")
    response = bench.probe.reset("action_publisher")
    assert not response.success
    assert response.message == "not reset: inference gave no sign of life; start it again first"
    assert state_of(arm.states[-1])["rung"] == "following"


MUTE_PUBLISHER = """
import numpy as np

from maskact_ros.nodes.action_publisher import ActionPublisher
from maskact_ros.nodes.ros.node_process import main


class MutePublisher(ActionPublisher):
    def _say_state(self):
        super()._say_state()
        if np.abs(self._follower._motion.filter.velocity).max() > 1.0:
            raise RuntimeError("a bug in saying the state")


main(MutePublisher)
"""


def test_a_bug_in_saying_the_state_at_speed_brakes_the_arm_and_ends_the_node(bench, robot, policy, tmp_path):
    script = tmp_path / "mute_publisher.py"
    script.write_text(MUTE_PUBLISHER)
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    parameters = PATIENT | {"policy_path": policy}
    arguments = [text for name, value in parameters.items() for text in ("-p", f"{name}:={value}")]
    publisher = bench.run([sys.executable, str(script), "--ros-args", "-r", "__ns:=/maskact", *arguments])
    bench.wait_until_active("action_publisher", publisher)
    arm.wait_for_measurements(20)
    Rig(bench, publisher, arm, planner).enable()
    planner.send(planner.swing(10.0))
    assert publisher.wait() == 1
    assert "a bug in saying the state" in publisher.output
    assert_sound(arm.commands, robot)
    assert_ends_at_rest(arm.commands)
