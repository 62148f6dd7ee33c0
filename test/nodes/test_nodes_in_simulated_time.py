"""All three nodes under a /clock that ticks coarsely, at a pace of its own: the policy is followed without a stop."""

import array
import itertools
import time

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from support.bringup_processes import PATIENT
from support.node_bench import set_points, state_of
from support.soundness import assert_sound, story
from support.stand_ins import Arm, Camera, Planner
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.nodes.ros.messages import ns_to_stamp, stamp_to_ns

pytestmark = pytest.mark.extended

FOLLOWED_S = 3.0  # of real time, without a stop


class Simulation:
    """Publishes /clock `rate_hz` times a second, which goes at `pace`; both may change at any time."""

    def __init__(self, probe):
        self.rate_hz, self.pace = 10.0, 1.0
        self._began_ns, self._at_ns, self._ticked_ns = 3600 * 10**9, time.monotonic_ns(), 0
        self.ticks = 0
        self._publisher = probe.publisher(Clock, "/clock", QoSProfile(depth=1))
        probe.now_ns = self.now_ns  # whatever stamps, stamps with this
        probe.every(0.002, self._tick)

    def now_ns(self) -> int:
        return self._began_ns + round(self.pace * (time.monotonic_ns() - self._at_ns))

    def change(self, rate_hz: float, pace: float) -> None:
        self._began_ns, self._at_ns = self.now_ns(), time.monotonic_ns()
        self.rate_hz, self.pace = rate_hz, pace

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._ticked_ns + 1e9 / self.rate_hz:
            self._ticked_ns = now_ns
            self.ticks += 1
            self._publisher.publish(Clock(clock=ns_to_stamp(self.now_ns())))


def flickering():
    """Makes each picture of a camera another one, as every real camera does."""
    greys = itertools.cycle(range(90, 110))

    def alter(image):
        image.data = array.array("B", bytes([next(greys)]) * len(image.data))
        return image

    return alter


@pytest.fixture(scope="module")
def running(module_bench, robot):
    probe = module_bench.probe
    simulation = Simulation(probe)
    arm, camera = Arm(probe, robot), Camera(probe, robot)
    camera.alter = flickering()
    programs = [
        module_bench.start("camera_encoder", use_sim_time=True),
        module_bench.start("inference", use_sim_time=True),
        module_bench.start("action_publisher", use_sim_time=True, **PATIENT["action_publisher"]),
    ]
    for name, program in zip(("camera_encoder", "inference", "action_publisher"), programs, strict=True):
        module_bench.wait_until_active(name, program)
    return simulation, arm, programs


@pytest.mark.parametrize(("rate_hz", "pace"), [(10, 1.0), (12, 0.3), (25, 2.2)])
def test_the_policy_is_followed_at_any_rate_and_pace_of_the_clock(running, robot, rate_hz, pace):
    simulation, arm, programs = running
    probe = arm._probe
    simulation.change(rate_hz, pace)
    ticks, chunks = simulation.ticks, probe.hear(JointTrajectory, "action_chunk")
    probe.wait(lambda: simulation.ticks > ticks + 10, "the clock at its new rate")
    began = len(arm.commands)
    probe.wait(lambda: probe.enable().success, "being enabled")
    arm.wait_for_rung("following")
    known, until_s = len(arm.states), time.monotonic() + FOLLOWED_S
    planned = len(chunks)
    probe.wait(lambda: time.monotonic() > until_s, "it to follow for a while")
    reports = {name: probe.reports(name)[-1].message for name in ("camera_encoder", "inference", "action_publisher")}
    assert state_of(arm.states[-1])["rung"] == "following", f"{story(arm.states[known:])}; {reports}"
    assert arm.states[known:] == [], f"{story(arm.states[known:])}; {reports}"
    assert len(chunks) - planned > 2 * FOLLOWED_S * min(1.0, pace), f"{len(chunks) - planned} chunks; {reports}"
    assert probe.enable(False).success
    arm.wait_for_rung("disabled")
    arm.wait_for_rest()
    assert_sound(arm.commands[began:], robot, breaks=[0])
    assert np.ptp(set_points(arm.commands[began:]), axis=0).max() > 0.001, "it did not move"
    for program in programs:
        assert "Traceback" not in program.output, program.output


def test_a_chunk_of_the_present_is_taken_though_the_clock_has_not_ticked_since_and_one_of_the_future_is_not(
    running, robot
):
    simulation, arm, programs = running
    publisher, planner = programs[2], Planner(arm._probe, robot)
    simulation.change(11, 0.7)
    ticks = simulation.ticks
    arm._probe.wait(lambda: simulation.ticks > ticks + 10, "the clock at its new rate")
    said = publisher.output.count("from the future")
    for _ in range(10):
        planner.send(planner.swing(1.0))
        arm.wait_for_measurements(3)  # a third of a tick
    assert publisher.output.count("from the future") == said
    ahead = planner.message(planner.swing(1.0), stamp_ns=simulation.now_ns() + 300_000_000)
    assert stamp_to_ns(ahead.header.stamp) > simulation.now_ns() + 200_000_000
    planner.send_message(ahead)
    arm._probe.wait_for_problem("action_publisher", "the chunk is from the future")
