"""The action publisher's services: what they say is true when they say it, and enable refuses what cannot work."""

import array

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from support.asking import all_values, ask
from support.node_bench import LATCHED, rungs_of, state_of
from support.stand_ins import Arm, Planner, healthy
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.nodes.ros.messages import ns_to_stamp, stamp_to_ns
from maskact_ros.nodes.ros.policy_swap import Phase, Standing

QUICK = {"hold_timeout_s": 0.5, "plan_timeout_s": 20.0, "joint_states_timeout_s": 1.0, "engage_tolerance_s": 5.0}


class Measuring:
    """Joint states of an arm that takes no commands, at 100 Hz."""

    def __init__(self, probe, robot):
        self._probe, self._robot = probe, robot
        self._publisher = probe.publisher(JointState, "joint_states")
        self.sent = 0
        probe.every(0.01, self._send)

    def _send(self):
        pose = array.array("d", ((self._robot.lower + self._robot.upper) / 2).tolist())
        message = JointState(name=list(self._robot.joint_names), position=pose)
        message.header.stamp = ns_to_stamp(self._probe.now_ns())
        self._publisher.publish(message)
        self.sent += 1


def come_to_a_fault(probe, arm, planner):
    """Follow a chunk to its end, and hold for too long; a loaded machine has half a second to bring the chunk."""
    known = len(arm.states)
    planner.send(np.tile(np.array(arm.commands[-1].message.data) if arm.commands else arm.middle, (10, 1)))
    arm.wait_for_rung("fault")
    assert "following" in rungs_of(arm.states[known:])
    arm.wait_for_rest()


@pytest.fixture
def rig(bench, robot):
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    bench.start_active("action_publisher", **QUICK)
    arm.wait_for_measurements(20)
    return bench.probe, arm, planner


def test_enable_directly_after_reset_is_never_refused(rig):
    probe, arm, planner = rig
    assert probe.enable().success
    for _ in range(8):
        come_to_a_fault(probe, arm, planner)
        assert "call ~/reset first" in probe.enable().message
        reset = probe.reset("action_publisher")
        assert reset.success, reset.message
        enabled = probe.enable()
        assert enabled.success, enabled.message


def test_disabling_in_a_fault_releases_where_that_is_chosen_and_says_what_it_does(rig):
    probe, arm, planner = rig
    assert probe.enable().success
    come_to_a_fault(probe, arm, planner)
    told = probe.enable(False)
    assert told.success
    assert "goes on sending the last set point; set release_on_disable to true and disable again" in told.message
    arm.assert_still(30)

    assert ask(probe, "action_publisher", release_on_disable=True).successful
    told = probe.enable(False)
    assert "going silent once the arm rests; call ~/reset before enabling" in told.message
    probe.wait(lambda: state_of(arm.states[-1])["reason"].endswith("; released"), "the fault to be released")
    count = len(arm.commands)
    arm.wait_for_measurements(50)
    assert len(arm.commands) <= count + 2
    assert state_of(arm.states[-1])["rung"] == "fault"
    assert "nothing is sent" in probe.enable(False).message
    assert "call ~/reset first" in probe.enable().message
    assert probe.reset("action_publisher").success
    assert probe.enable().success


def test_enable_is_refused_while_nothing_takes_the_commands(bench, robot):
    probe, measuring = bench.probe, Measuring(bench.probe, robot)
    bench.start_active("action_publisher")
    probe.wait(lambda: measuring.sent > 20, "measurements")
    refused = probe.enable()
    assert not refused.success
    assert refused.message == "not enabled: nothing listens to /maskact/command (std_msgs/msg/Float64MultiArray)"
    with probe.hearing({"command": Float64MultiArray}):
        probe.wait(lambda: probe.enable().success, "being enabled")


def test_enable_is_refused_while_the_controller_takes_another_type(bench, robot):
    probe, measuring = bench.probe, Measuring(bench.probe, robot)
    bench.start_active("action_publisher", command_interface="trajectory")
    with probe.hearing({"command": Float64MultiArray}):
        probe.wait(lambda: measuring.sent > 20, "measurements")
        probe.wait(lambda: "set command_interface to position" in probe.enable().message, "the other type to be found")
        refused = probe.enable()
    assert not refused.success
    wanted, found = "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"
    assert refused.message.startswith(
        f"not enabled: nothing listens to /maskact/command with {wanted}, but with {found}"
    )


@pytest.mark.parametrize(("ahead_s", "text"), [(-0.5, "older than 0.2 s by their stamp"), (0.4, "in the future")])
def test_enable_is_refused_while_joint_states_carry_stamps_of_another_clock(bench, robot, ahead_s, text):
    arm = Arm(bench.probe, robot)

    def shift(message):
        message.header.stamp = ns_to_stamp(stamp_to_ns(message.header.stamp) + round(ahead_s * 1e9))
        return message

    arm.alter = shift
    bench.start_active("action_publisher")
    arm.wait_for_measurements(30)
    refused = bench.probe.enable()
    assert not refused.success
    assert text in refused.message
    assert "/maskact/joint_states" in refused.message
    arm.alter = healthy
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")


def test_planners_are_looked_for_under_the_name_after_remapping(bench, robot):
    arm = Arm(bench.probe, robot)
    bench.start_active("action_publisher", remappings={"action_chunk": "/plans/of_the_day"})
    arm.wait_for_measurements(20)
    assert bench.probe.enable().message.endswith("; nothing publishes /plans/of_the_day yet")
    assert bench.probe.enable(False).message == "disabled; nothing is sent"
    bench.probe.publisher(JointTrajectory, "/plans/of_the_day")
    bench.probe.wait(lambda: "nothing publishes" not in bench.probe.enable().message, "the planner to be found")


@pytest.mark.parametrize(
    ("use", "text", "refused"),
    [
        ("40 none", "n_action_steps is 40 on inference and 20 here", True),
        pytest.param("7 none", "n_action_steps is 7 on inference and 20 here", False, marks=pytest.mark.extended),
        pytest.param(
            "20 0.05", "temporal_ensemble_coeff is 0.05 on inference and none", False, marks=pytest.mark.extended
        ),
    ],
)
def test_it_is_said_when_inference_uses_chunks_otherwise(bench, robot, use, text, refused):
    arm = Arm(bench.probe, robot)
    bench.start_active("action_publisher", n_action_steps=20)
    stands = bench.probe.publisher(String, "policy", LATCHED)
    policy = all_values(bench.probe, "action_publisher")["policy_path"]
    stands.publish(Standing("inference", "", Phase.RUNNING, policy, "", use).to_message())
    bench.probe.wait_for_problem("action_publisher", text, "set it alike on both")
    arm.wait_for_measurements(20)
    enabled = bench.probe.enable()
    assert enabled.success is not refused, enabled.message
    assert (text in enabled.message) is refused
    stands.publish(Standing("inference", "", Phase.RUNNING, policy, "", "20 none").to_message())
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")


def test_inference_says_how_it_uses_chunks_and_says_it_again_when_that_changes(bench):
    standings = bench.probe.hear(String, "policy", LATCHED)
    bench.start_active("inference")

    def said() -> list[str]:
        return [Standing.from_message(heard.message).chunk_use for heard in standings]

    bench.probe.wait(lambda: said() and said()[-1].endswith(" none"), "inference to say how it uses chunks")
    assert ask(bench.probe, "inference", temporal_ensemble_coeff=0.2, n_action_steps=3).successful
    bench.probe.wait(lambda: said()[-1] == "3 0.2", "inference to say it again")


def test_who_else_publishes_commands_is_named_when_the_arm_does_not_follow(bench, robot):
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    bench.start_active("action_publisher", **QUICK | {"hold_timeout_s": 60.0})
    bench.probe.publisher(Float64MultiArray, "command")  # of a teleoperation, say
    arm.wait_for_measurements(20)
    assert bench.probe.enable().success
    planner.send(planner.swing(10.0))
    arm.wait_for_rung("following")
    bench.probe.wait_for_problem("action_publisher", "commands come from /maskact/probe on /maskact/command, too")
    stuck = []

    def block(message):
        stuck.append(message.position)
        message.position = stuck[0]
        return message

    arm.alter = block
    reason = state_of(arm.wait_for_rung("fault"))["reason"]
    assert "does not follow" in reason
    assert "commands come from /maskact/probe on /maskact/command, too" in reason


def test_an_arm_that_was_moved_unseen_is_no_error_and_one_that_cannot_be_believed_is(bench, robot):
    arm = Arm(bench.probe, robot)
    publisher = bench.start_active("action_publisher")
    arm.wait_for_measurements(50)
    elsewhere = arm.middle + 0.3 * (robot.upper - robot.lower)

    def moved(message):
        message.position = array.array("d", elsewhere.tolist())  # also once it is commanded to stay there
        return message

    arm.alter = moved  # as when a simulation is reset
    bench.probe.wait(lambda: bench.probe.enable().success, "the new pose to be believed")
    assert "believ" not in publisher.output
    assert bench.probe.enable(False).success

    def in_degrees(message):
        message.position = array.array("d", np.degrees(message.position).tolist())
        return message

    arm.alter = in_degrees
    bench.probe.wait_for_problem("action_publisher", "joint states are not believable: ", "beyond its limits")
