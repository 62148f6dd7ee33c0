"""Measured poses that cannot be: zeros, degrees, bit errors, jumps; they begin no motion, and are refused by name."""

import array

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from support.fault_rig import Rig
from support.node_bench import set_points, state_of
from support.proxy import altered

pytestmark = pytest.mark.extended


def impossible(kind: str, robot, random: np.random.Generator):
    """What a driver that restarts, a bus that loses bits, or another unit makes of a measurement."""
    joint, other = random.choice(5, 2, replace=False)
    jump = random.uniform(0.15, 0.5) * robot.velocity * random.choice([-1, 1])
    last: list[array.array] = []

    def alter(message: JointState) -> None:
        position = np.array(message.position)
        if kind == "zeros":
            position[:] = 0.0
        elif kind == "degrees":
            position = np.degrees(position)
        elif kind == "one joint's bit error":
            position.view(np.uint64)[joint] ^= np.uint64(1) << np.uint64(random.integers(40, 62))
            position[joint] = position[joint] if np.isfinite(position[joint]) else 0.0
        elif kind == "jump":
            position += jump
        elif kind == "swapped":
            position[[joint, other]] = position[[other, joint]]
        else:
            last.append(message.position)
            position = np.array(last[0])
        message.position = array.array("d", position.tolist())

    return alter


KINDS = ("zeros", "degrees", "one joint's bit error", "jump", "frozen", "swapped")


class ForSome:
    """A fault of the next so many messages; then they pass as they are."""

    def __init__(self, count: int, change):
        self.left, self._change = count, altered(change)

    def __call__(self, message: object):
        self.left -= 1
        return self._change(message) if self.left >= 0 else [(0.0, message)]


@pytest.fixture(scope="module")
def running(module_bench, robot):
    """A publisher that notices an arm that does not follow; the stand-in arm is where it is told to be, at once."""
    rig = Rig.start(module_bench, robot, at=robot.lower + 0.3 * (robot.upper - robot.lower), hold_timeout_s=2.0)
    yield rig
    rig.close()


@pytest.fixture
def rig(running):
    running.move()
    yield running
    running.settle()


@pytest.mark.parametrize("state", ["following", "holding", "disabled", "in a fault"])
def test_a_pose_that_cannot_be_begins_no_motion(rig, phase, state):
    kind, count = phase.pick(KINDS), int(phase.random.integers(3, 31))
    phase.let_it_move(1.0)
    if state == "disabled":
        assert rig.probe.enable(False).success
        rig.arm.wait_for_rung("disabled")
    elif state != "following":
        rig.planner.end()
        rig.arm.wait_for_rung("holding" if state == "holding" else "fault")
    if state != "following":
        rig.arm.wait_for_rest()
    known, before = len(rig.arm.states), rig.pose
    fault = rig.joints.fault = ForSome(count, impossible(kind, rig.robot, phase.random))
    rig.probe.wait(lambda: fault.left < 0, f"{count} measurements of {kind}")
    rig.arm.wait_for_commands(50)
    if state == "following":  # at most a pause
        assert "fault" not in rig.rungs_since(known) or kind == "frozen", f"{count} of {kind}"
    else:
        led = set_points(rig.arm.commands[-50:])
        assert (led == before).all(), f"{count} of {kind} led the arm {np.abs(led - before).max()} away"
        assert state == "holding" or rig.rungs_since(known) == []


@pytest.mark.parametrize("kind", ["zeros", "jump", "degrees"])
def test_poses_that_cannot_be_and_go_on_are_a_fault_of_their_own(rig, phase, kind):
    known, said = len(rig.arm.states), len(rig.publisher.output)
    rig.joints.fault = altered(impossible(kind, rig.robot, phase.random))
    reason = state_of(rig.arm.wait_for_rung("fault"))["reason"]
    assert reason.startswith("joint states are not believable: ")
    assert set(rig.rungs_since(known)) <= {"remaining", "decelerating", "holding", "fault"}
    rig.wait_for_line("joint_states is not believed: ", said)
    rig.arm.wait_for_rest()
    rig.arm.assert_still(100)
    refused = rig.probe.enable()
    assert not refused.success
    rig.heal()
    rig.arm.wait_for_measurements(20)
    assert rig.probe.reset("action_publisher").success
    rig.arm.wait_for_rung("disabled")
