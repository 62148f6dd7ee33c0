"""The arm is blocked while the plan advances, then released: the plan stops advancing, and nothing lurches."""

import array

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from support.fault_rig import PERIOD_S, Rig
from support.node_bench import set_points, state_of
from support.proxy import altered
from support.soundness import story

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def running(module_bench, robot):
    rig = Rig.start(module_bench, robot)
    yield rig
    rig.close()


@pytest.fixture
def rig(running):
    running.move()
    yield running
    running.settle()


class Blocked:
    """The arm stays where it is: all of it, or one joint."""

    def __init__(self, joints: list[int]):
        self._joints = joints
        self.pose: np.ndarray | None = None

    def __call__(self, message: JointState) -> None:
        measured = np.array(message.position)
        if self.pose is None:
            self.pose = measured.copy()
        measured[self._joints] = self.pose[self._joints]
        message.position = array.array("d", measured.tolist())


@pytest.mark.parametrize("kind", ["the whole arm", "one joint"])
def test_a_blocked_arm_is_not_left_behind_and_does_not_lurch_when_released(rig, phase, kind):
    robot = rig.robot
    moving = [0, 1, 2, 3, 4]  # not the dated one, and not the gripper, which may hold something
    joints = list(range(len(robot.joints))) if kind == "the whole arm" else [phase.pick(moving)]
    blocked = Blocked(joints)
    phase.let_it_move()
    known, began = len(rig.arm.states), len(rig.arm.commands)
    rig.joints.fault = altered(blocked)
    reason = state_of(rig.arm.wait_for_rung("fault"))["reason"]
    assert any(robot.joint_names[joint] in reason for joint in joints), reason
    assert "following" not in rig.rungs_since(known), story(rig.arm.states[known:])
    rig.arm.wait_for_commands(150)
    rig.arm.wait_for_rest()
    ahead = np.abs(set_points(rig.arm.commands[began:]) - blocked.pose)[:, joints]
    # Within the tolerance of 0.2 s, and what it takes to notice and to stop, at the speed of the plan.
    farthest = robot.velocity[joints] * (0.2 * 1.25 + robot.stopping_s)
    assert (ahead.max(axis=0) < farthest).all(), f"{ahead.max(axis=0)} ahead of the blocked arm, allowed {farthest}"
    assert (ahead[-1] < 0.02).all(), f"it rests {ahead[-1]} from where the arm is"
    released = len(rig.arm.commands)
    rig.heal()
    rig.arm.wait_for_commands(100)
    step = np.abs(np.diff(set_points(rig.arm.commands[released - 1 :]), axis=0)).max()
    assert step < robot.velocity.max() * PERIOD_S * 0.1, f"a lurch of {step} when it was released"
    assert rig.rung == "fault", "nothing resumes by itself"
    rig.move()
