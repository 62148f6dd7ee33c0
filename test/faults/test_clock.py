"""ROS time steps by an hour, stands still, goes back: commands keep their rate, the arm holds until a plan is fresh."""

import threading
import time

import pytest
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from support.fault_rig import Rig
from support.node_bench import state_of
from support.soundness import story

from maskact_ros.nodes.ros.messages import ns_to_stamp

pytestmark = pytest.mark.extended

HOUR_NS = 3600 * 10**9


class SimulatedTime:
    """Publishes /clock a hundred times a second: the steady clock, shifted, or standing still."""

    def __init__(self, probe):
        self._probe = probe
        self._publisher = probe.publisher(Clock, "/clock", QoSProfile(depth=1))
        self._lock = threading.Lock()
        self._offset_ns = 10**13 - time.monotonic_ns()
        self._stopped_ns: int | None = None
        probe.now_ns = self.now_ns  # whatever stamps, stamps with this
        probe.every(0.01, lambda: self._publisher.publish(Clock(clock=ns_to_stamp(self.now_ns()))))

    def now_ns(self) -> int:
        with self._lock:
            return self._offset_ns + time.monotonic_ns() if self._stopped_ns is None else self._stopped_ns

    def step(self, by_ns: int) -> None:
        with self._lock:
            self._offset_ns += by_ns

    def stop(self) -> None:
        now_ns = self.now_ns()
        with self._lock:
            self._stopped_ns = now_ns

    def go_on(self) -> None:
        with self._lock:
            assert self._stopped_ns is not None
            self._offset_ns, self._stopped_ns = self._stopped_ns - time.monotonic_ns(), None


@pytest.fixture(scope="module")
def running(module_bench, robot):
    clock = SimulatedTime(module_bench.probe)
    rig = Rig.start(module_bench, robot, use_sim_time=True, hold_timeout_s=60.0)
    yield rig, clock
    rig.close()


@pytest.fixture
def rig(running):
    running[0].move()
    yield running[0]
    running[0].settle()


@pytest.mark.parametrize("by_ns", [HOUR_NS, -HOUR_NS, -(10**9)], ids=["an hour ahead", "an hour back", "a second back"])
def test_after_a_step_of_the_clock_the_arm_holds_and_then_follows_a_fresh_plan(rig, running, phase, by_ns):
    clock = running[1]
    phase.let_it_move()
    known, epoch = len(rig.arm.states), state_of(rig.arm.states[-1])["epoch"]
    rig.planner.end()  # no plan of the new time for a while
    clock.step(by_ns)
    rig.probe.wait(lambda: any(state_of(s)["epoch"] > epoch for s in rig.arm.states[known:]), "a new epoch")
    assert "following" not in rig.rungs_since(known), story(rig.arm.states[known:])
    rig.arm.wait_for_rest()
    rig.arm.assert_still(30)
    rig.arm.assert_rate(100.0)
    rig.planner.begin(rig.pose)
    rig.arm.wait_for_rung("following")
    rig.arm.assert_rate(100.0)


def test_when_the_clock_steps_the_rate_of_the_commands_does_not_change(rig, running, phase):
    phase.let_it_move()
    began = len(rig.arm.commands)
    running[1].step(phase.pick([HOUR_NS, -HOUR_NS, 10**8, -(10**8)]))
    rig.arm.wait_for_commands(100)
    rig.assert_rate(began)
    rig.arm.wait_for_rung("following")


def test_while_the_clock_stands_still_the_arm_holds_and_goes_on_when_it_does(rig, running, phase):
    clock = running[1]
    phase.let_it_move()
    known, began = len(rig.arm.states), len(rig.arm.commands)
    clock.stop()
    rig.probe.wait(
        lambda: any(state_of(s)["rung"] in ("decelerating", "holding") for s in rig.arm.states[known:]), "it to stop"
    )
    rig.arm.wait_for_rest()
    rig.arm.assert_still(50)
    clock.go_on()
    rig.arm.wait_for_rung("following")
    rig.arm.wait_for_commands(100)
    rig.assert_rate(began)
