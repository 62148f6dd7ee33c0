"""The action publisher's other ways out: trajectories that end at rest, a dry run, and changes while the arm moves."""

import re
import signal

import numpy as np
import pytest
from std_msgs.msg import String
from support.asking import all_values, ask_with, message
from support.node_bench import LATCHED, state_of
from support.soundness import assert_positions_sound, assert_sound, velocities_of
from support.stand_ins import Arm, Planner
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.paths import shared
from maskact_ros.nodes.ros.policy_swap import Phase, Standing

STEP_NS = 10_000_000
PATIENT = {
    "joint_states_timeout_s": 5.0,
    "plan_timeout_s": 20.0,
    "hold_timeout_s": 60.0,
    "following_tolerance_s": 0.0,  # the stand-in arm is a thread of a busy process
}


class RestingArm(Arm):
    """Measures that it rests in the middle, whatever it is sent."""

    def hear(self, probe):
        return []


@pytest.fixture
def arm(bench, robot):
    return Arm(bench.probe, robot)


@pytest.fixture
def planner(bench, robot):
    return Planner(bench.probe, robot)


def set_parameters(bench, **values):
    return ask_with(bench.probe, "action_publisher", *(message(name, value) for name, value in values.items()))


def positions_of(trajectory: JointTrajectory) -> np.ndarray:
    return np.array([list(point.positions) for point in trajectory.points])


def test_trajectories_are_short_horizons_of_one_motion_that_each_end_at_rest(bench, robot, planner):
    heard = bench.probe.hear(JointTrajectory, "command")
    arm = RestingArm(bench.probe, robot)
    bench.start_active("action_publisher", command_interface="trajectory", **PATIENT)
    assert bench.probe.enable().success
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(5.0))
    bench.probe.wait(lambda: len(heard) >= 60, "three seconds of trajectories")
    last, sent_ns = None, 0
    for item in heard:
        trajectory = item.message
        assert list(trajectory.joint_names) == list(robot.joint_names)
        times_ns = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in trajectory.points]
        assert times_ns == [STEP_NS * i for i in range(len(times_ns))]
        assert not any(trajectory.points[-1].velocities)
        positions = positions_of(trajectory)
        if len(positions) > 3:
            assert_positions_sound(positions, robot)
        later = 0 if last is None else round((item.sent_ns - sent_ns) / STEP_NS)
        if last is not None and later + 2 < len(last):  # else it was delayed until the arm had come to rest
            np.testing.assert_allclose(positions[0], last[later], rtol=0, atol=0.02)  # where the last horizon said
        last, sent_ns = positions, item.sent_ns
    assert np.ptp([positions_of(item.message)[0] for item in heard], axis=0).min() > 0.01
    assert np.median(np.diff([item.sent_ns for item in heard])) == pytest.approx(5 * STEP_NS, rel=0.1)


def test_a_rate_that_is_too_high_for_trajectories_is_refused_at_once_and_while_running(bench):
    refused = bench.start("action_publisher", command_interface="trajectory", control_rate_hz=500.0)
    sentence = "control_rate_hz is 500; allowed with command_interface trajectory: up to 100"
    assert refused.wait() == 1
    assert sentence in refused.output
    bench.start_active("action_publisher", command_interface="trajectory")
    answer = set_parameters(bench, control_rate_hz=500.0)
    assert (answer.successful, answer.reason) == (False, sentence)


def test_limits_under_which_a_horizon_could_not_end_soon_are_refused_with_trajectories(bench):
    bench.start_active("action_publisher", command_interface="trajectory")
    answer = set_parameters(bench, **{"limits.elbow.acceleration": 1.0})
    assert not answer.successful
    assert answer.reason.startswith("elbow would need 2.5 s to stop; allowed with command_interface trajectory")


def test_told_to_end_it_stops_as_quickly_as_the_robot_may_however_tight_its_limits_are(bench, arm, planner, robot):
    slow = {f"limits.{joint.name}.acceleration": joint.acceleration * 0.02 for joint in robot.joints}
    publisher = bench.start_active("action_publisher", clamp_timeout_s=60.0, engage_tolerance_s=5.0, **slow, **PATIENT)
    assert bench.probe.enable().success
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(20.0))
    arm.wait_for_rung("following")
    arm.wait_for_commands(300)
    publisher.send(signal.SIGTERM)
    assert publisher.wait(within_s=robot.stopping_s + 2.0) == 0
    assert "still moving" not in publisher.output
    assert_sound(arm.commands, robot)


def test_a_dry_run_does_everything_but_send_commands(bench, arm, planner):
    bench.start_active("action_publisher", dry_run=True, **PATIENT)
    assert bench.probe.enable().success
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(3.0))
    arm.wait_for_rung("following")
    bench.probe.wait_for_problem("action_publisher", "dry run: commands are not sent")
    bench.probe.wait_for_report("action_publisher", lambda r: "chunk_age_at_use_ms_p50" in r.values, "a plan in use")
    arm.wait_for_measurements(50)
    assert not arm.commands
    assert bench.probe.node.count_publishers("command") == 0
    assert state_of(arm.states[-1])["rung"] == "following"


def test_rate_limits_and_blend_change_while_the_arm_moves_and_the_motion_stays_one(bench, arm, planner, robot):
    bench.start_active("action_publisher", clamp_timeout_s=60.0, engage_tolerance_s=5.0, **PATIENT)
    assert bench.probe.enable().success
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(20.0))
    arm.wait_for_rung("following")
    arm.wait_for_commands(100)
    slow = {f"limits.{joint.name}.velocity": joint.velocity * 0.2 for joint in robot.joints}
    assert set_parameters(bench, blend_s=0.05, **slow).successful
    arm.wait_for_commands(50)
    slowed = velocities_of(arm.wait_for_commands(50))
    assert (np.abs(slowed) <= 0.2 * robot.velocity * (1 + 1e-6)).all()
    assert_sound(arm.commands, robot)
    assert set_parameters(bench, control_rate_hz=250.0).successful
    arm.wait_for_commands(50)
    arm.assert_rate(250.0, commands=200)
    assert_sound(arm.wait_for_commands(100), robot, rate_hz=250.0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"limits.elbow.velocity": 2.6}, "limits.elbow.velocity is 2.6; allowed: 0.0025 to 2.5"),
        (
            {"limits.elbow.lower": 1.0, "limits.elbow.upper": 0.5},
            "joint elbow: its limits together leave it lower = 1 and upper = 0.5; allowed: lower < upper",
        ),
        ({"dry_run": True}, "dry_run cannot change now."),
        ({"blend_s": float("nan")}, "blend_s is nan; allowed: finite numbers"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(module_bench, values, reason):
    if not module_bench.probe.reports("action_publisher"):
        module_bench.start_active("action_publisher")
    answer = set_parameters(module_bench, **values)
    assert not answer.successful
    assert answer.reason.startswith(reason)


def test_with_limits_from_robot_description_the_urdf_is_waited_for_and_its_tighter_limits_hold(
    bench, arm, planner, robot
):
    publisher = bench.start_active("action_publisher", limits_from="robot_description", **PATIENT)
    arm.wait_for_measurements(20)
    refused = bench.probe.enable()
    assert not refused.success
    assert "no usable robot_description on /maskact/robot_description yet" in refused.message
    descriptions = bench.probe.publisher(String, "robot_description", LATCHED)
    descriptions.publish(String(data="<robot name='another'/>"))
    bench.probe.wait_for_problem("action_publisher", "robot_description is refused: ")
    assert not bench.probe.enable().success
    urdf = shared("config/sim_arm.urdf").read_text(encoding="utf-8")
    descriptions.publish(String(data=re.sub(r'velocity="2.5"', 'velocity="0.5"', urdf)))
    bench.probe.wait(lambda: bench.probe.enable().success, "the URDF to be taken")
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(10.0))
    arm.wait_for_rung("following")
    fastest = np.abs(velocities_of(arm.wait_for_commands(200))).max(axis=0)
    assert fastest[:3].max() == pytest.approx(0.5, rel=1e-6)
    assert "Traceback" not in publisher.output


def test_when_inference_changes_its_policy_the_publisher_goes_by_the_new_one_too(bench, make_policy, tmp_path):
    publisher = bench.start_active("action_publisher")
    policies = bench.probe.publisher(String, "policy", LATCHED)
    changed = make_policy(seed=1)
    policies.publish(Standing("inference", "", Phase.RUNNING, str(tmp_path / "none"), "").to_message())
    bench.probe.wait_for_problem("action_publisher", "the policy that inference runs now is not known here: ")
    policies.publish(Standing("inference", "", Phase.RUNNING, str(changed), "").to_message())
    bench.probe.wait(
        lambda: all_values(bench.probe, "action_publisher")["policy_path"] == str(changed), "the new policy's path"
    )
    bench.probe.wait_for_ok("action_publisher")
    assert "Traceback" not in publisher.output
