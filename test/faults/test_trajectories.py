"""`command_interface: trajectory` under faults: names and order exact, within limits, each horizon ends at rest.

And a stock joint_trajectory_controller, with either setting, would send nothing but that motion to the drives.
"""

import itertools
import signal
import time

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from support.drives import assert_drives_keep_limits
from support.fault_rig import StreamingPlanner
from support.garbage import in_chunk
from support.node_bench import Heard, Probe
from support.proxy import Stream, altered, dropped, faulty, reordered
from support.soundness import story
from support.stand_ins import Arm
from trajectory_msgs.msg import JointTrajectory

pytestmark = pytest.mark.extended

STEP_S = 0.01


class TrajectoryArm(Arm):
    """Does what the last trajectory says, from its receipt on."""

    def hear(self, probe: Probe) -> list[Heard]:
        self.trajectories = probe.hear(JointTrajectory, "command")
        return []

    def _measure(self) -> None:
        if self.trajectories:
            last = self.trajectories[-1]
            points = last.message.points
            at = min(int((time.monotonic() - last.at_s) / STEP_S), len(points) - 1)
            self.commands[:] = [Heard(last.at_s, Float64MultiArray(data=points[at].positions))]
        super()._measure()


@pytest.fixture(scope="module")
def running(module_bench, robot):
    probe = module_bench.probe
    chunks, joints = Stream(probe, JointTrajectory, "action_chunk"), Stream(probe, JointState, "joint_states")
    arm, planner = TrajectoryArm(probe, robot), StreamingPlanner(probe, robot)
    remappings = faulty("action_chunk", "joint_states")
    publisher = module_bench.start_active("action_publisher", remappings=remappings, command_interface="trajectory")
    yield module_bench, publisher, arm, planner, chunks, joints
    chunks.close()
    joints.close()


KINDS = ("no chunks", "spoilt chunks", "chunks out of order", "no joint states", "disabled", "reset", "stopped")


def test_every_trajectory_is_sound_and_a_stock_controller_goes_along_it_whatever_happens(running, robot, phase):
    kind = phase.pick(KINDS)
    bench, publisher, arm, planner, chunks, joints = running
    probe = bench.probe
    began, known = len(arm.trajectories), len(arm.states)
    arm.wait_for_measurements(30)
    probe.wait(lambda: probe.enable().success, "being enabled")
    pose = np.array(arm.commands[-1].message.data) if arm.commands else arm.middle
    planner.begin(pose)
    arm.wait_for_rung("following")
    probe.wait(lambda: len(arm.trajectories) > began + 10, "trajectories")
    phase.let_it_move()
    if kind == "no chunks":
        chunks.fault = dropped
    elif kind == "spoilt chunks":
        chunks.fault = altered(in_chunk(phase.pick(("NaN", "Inf", "1e308", "too few")), phase.random))
    elif kind == "chunks out of order":
        chunks.fault = reordered(0.6, phase.random)
    elif kind == "no joint states":
        joints.fault = dropped
    elif kind == "disabled":
        assert probe.enable(False).success
    elif kind == "reset":
        assert probe.reset("action_publisher").success
    else:
        publisher.send(signal.SIGSTOP)
        time.sleep(phase.random.uniform(0.01, 0.4))
        publisher.send(signal.SIGCONT)
    if kind in ("chunks out of order", "disabled", "reset", "stopped"):
        until = len(arm.trajectories) + 30
        probe.wait(lambda: len(arm.trajectories) >= until, "more trajectories")
    else:
        arm.wait_for_rung("holding")
    chunks.heal()
    joints.heal()
    probe.enable(False)
    arm.wait_for_rung("disabled")
    planner.end()
    until = len(arm.trajectories) + 10
    probe.wait(lambda: len(arm.trajectories) >= until, "the last trajectories")
    assert "Traceback" not in publisher.output, publisher.output
    try:
        assert_trajectories_sound(arm.trajectories[began:], robot)
        assert_drives_keep_limits(arm.trajectories[began:], robot)
    except AssertionError as wrong:
        raise AssertionError(f"{wrong}\n{story(arm.states[known:])}") from None


def assert_trajectories_sound(heard: list[Heard], robot) -> None:
    """Each by itself, and each beside the one before it: two motions that parted at most a message ago."""
    for i, item in enumerate(heard):
        message = item.message
        assert tuple(message.joint_names) == robot.joint_names, f"trajectory {i}: {message.joint_names}"
        times_s = [p.time_from_start.sec + p.time_from_start.nanosec / 1e9 for p in message.points]
        assert times_s[0] == 0.0, f"trajectory {i} begins at {times_s[0]} s"
        assert (np.diff(times_s) > 0).all(), f"trajectory {i}: its times do not grow"
        positions = np.array([p.positions for p in message.points])
        velocities = np.array([p.velocities for p in message.points])
        assert positions.shape == velocities.shape == (len(message.points), len(robot.joints))
        assert np.isfinite(positions).all()
        assert np.isfinite(velocities).all()
        assert not velocities[-1].any(), f"trajectory {i} ends at {velocities[-1]}"
        assert (positions >= robot.lower - 1e-9).all(), f"trajectory {i} leaves its range"
        assert (positions <= robot.upper + 1e-9).all(), f"trajectory {i} leaves its range"
        assert (np.abs(velocities) <= robot.velocity * (1 + 1e-6)).all(), f"trajectory {i}: too fast"
        steps = np.diff(positions, axis=0) / STEP_S
        assert (np.abs(steps) <= robot.velocity * (1 + 1e-6)).all(), f"trajectory {i}: too fast"
        bends = np.diff(steps, axis=0) / STEP_S
        assert (np.abs(bends) <= robot.acceleration * (1 + 1e-6)).all(), f"trajectory {i}: {np.abs(bends).max(axis=0)}"
    for i, (before, after) in enumerate(itertools.pairwise(heard)):
        if after.number != before.number + 1:
            continue  # lost on its way to the probe
        elapsed_s = (after.sent_ns - before.sent_ns) / 1e9
        points = before.message.points
        at = round(elapsed_s / STEP_S)
        if at >= len(points):
            continue  # the first of a new motion, or held for long
        parted_s = elapsed_s + 2 * STEP_S
        gap = np.abs(np.array(after.message.points[0].positions) - np.array(points[at].positions))
        allowed = robot.acceleration * parted_s**2 + robot.velocity * 2 * STEP_S
        assert (gap <= allowed).all(), f"trajectory {i + 1} is off by {gap}, allowed {allowed}"
