"""Joint states permuted, missing, doubled, with others among them, stale: the right mapping, or a refusal by name."""

import array
import time

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from support.fault_rig import Rig
from support.proxy import Fault, altered, dropped, duplicated
from support.soundness import story

pytestmark = pytest.mark.extended

TIMEOUT_S = 0.2


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
    running.probe.wait_for_ok("action_publisher")


def reordered_by(order: list[int], others: int = 0):
    """The joints in another order, with others, far away, before and behind them."""

    def alter(message: JointState) -> None:
        names = [f"other_{i}" for i in range(others)] + [message.name[i] for i in order]
        positions = [1e3] * others + [message.position[i] for i in order]
        message.name, message.position = names, array.array("d", positions)

    return alter


def without(joint: int):
    def alter(message: JointState) -> None:
        message.name = [name for i, name in enumerate(message.name) if i != joint]
        message.position = array.array("d", [p for i, p in enumerate(message.position) if i != joint])

    return alter


def doubled(joint: int):
    def alter(message: JointState) -> None:
        message.name, message.position = (
            [*message.name, message.name[joint]],
            array.array("d", [*message.position, 0.0]),
        )

    return alter


def with_one_stamp() -> Fault:
    """The measurements go on under the stamp of the first."""
    stamps = []

    def alter(message: JointState) -> None:
        stamps.append(message.header.stamp)
        message.header.stamp = stamps[0]

    return altered(alter)


@pytest.mark.parametrize("kind", ["permuted", "extra", "duplicated messages"])
def test_joints_are_found_by_name(rig, phase, kind):
    order = phase.random.permutation(len(rig.robot.joints)).tolist()
    phase.let_it_move()
    known = len(rig.arm.states)
    rig.joints.fault = {
        "permuted": altered(reordered_by(order)),
        "extra": altered(reordered_by(order, others=2)),
        "duplicated messages": duplicated,
    }[kind]
    rig.arm.wait_for_commands(150)  # a wrong mapping would be an arm that does not follow
    assert rig.rungs_since(known) == [], story(rig.arm.states[known:])
    rig.planner.end()
    assert rig.probe.enable(False).success
    rig.arm.wait_for_rung("disabled")


def test_a_publisher_that_starts_with_permuted_joint_states_begins_where_the_arm_is(bench, robot, phase):
    order = phase.random.permutation(len(robot.joints)).tolist()
    pose = phase.random.uniform(0.8 * robot.lower + 0.2 * robot.upper, 0.2 * robot.lower + 0.8 * robot.upper)
    rig = Rig.start(bench, robot, at=pose)
    rig.joints.fault = altered(reordered_by(order, others=1))
    rig.arm.wait_for_measurements(30)
    rig.move()
    first = np.array(rig.arm.commands[0].message.data)
    assert np.abs(first - pose).max() < 5e-3
    rig.settle()
    rig.close()


@pytest.mark.parametrize("kind", ["missing", "doubled", "silent", "stale"])
def test_unusable_joint_states_stop_the_arm_after_their_timeout(rig, phase, kind):
    joint = int(phase.random.integers(len(rig.robot.joints)))
    phase.let_it_move()
    known, said = len(rig.arm.states), len(rig.publisher.output)
    began_s = time.monotonic()
    rig.joints.fault = {
        "missing": altered(without(joint)),
        "doubled": altered(doubled(joint)),
        "silent": dropped,
        "stale": with_one_stamp(),
    }[kind]
    rig.wait_to_decelerate(known, began_s + TIMEOUT_S)
    rig.arm.wait_for_rung("holding")
    assert rig.rungs_since(known) == ["decelerating", "holding"]
    if kind in ("missing", "doubled"):
        assert rig.robot.joint_names[joint] in rig.wait_for_line("joint_states is refused", said)
    rig.arm.assert_still(30)
    rig.heal()
    rig.arm.wait_for_rung("following")
