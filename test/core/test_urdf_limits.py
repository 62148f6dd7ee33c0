"""Limits from a URDF: the tightest wins, and whatever is wrong is one sentence."""

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.limits import LimitsError
from maskact_ros.core.robot import Camera, Joint, RobotSpec
from maskact_ros.core.urdf_limits import UrdfError, limits_from_urdf

CONFIG = Path(__file__).resolve().parents[2] / "config"
ROBOT = RobotSpec(
    name="arm",
    policy_rate_hz=20.0,
    joint_states_topic="joint_states",
    command_topic="command",
    joints=(
        Joint(name="lift", lower=-1.0, upper=2.0, velocity=1.0, acceleration=5.0),
        Joint(name="turn", type="continuous", velocity=2.0, acceleration=6.0, jerk=30.0),
        Joint(name="grip", type="prismatic", lower=0.0, upper=0.04, velocity=0.2, acceleration=2.0, gripper=True),
    ),
    cameras=(Camera(name="top", image_topic="image_raw", width=64, height=48),),
)
LIFT = '<joint name="lift" type="revolute"><limit lower="-0.5" upper="3" velocity="4" effort="1"/></joint>'
TURN = '<joint name="turn" type="continuous"><limit velocity="1.5" effort="1"/></joint>'
GRIP = '<joint name="grip" type="prismatic"><limit lower="-1" upper="0.03" velocity="0.1" effort="1"/></joint>'


def urdf(lift=LIFT, turn=TURN, grip=GRIP, more=""):
    return f'<?xml version="1.0"?>\n<robot name="arm"><link name="base"/>{grip}{lift}{turn}{more}</robot>'


def test_the_tightest_of_robot_and_urdf_wins_joint_by_joint():
    limits = limits_from_urdf(urdf(), ROBOT)
    np.testing.assert_array_equal(limits.lower, [-0.5, -np.inf, 0.0])
    np.testing.assert_array_equal(limits.upper, [2.0, np.inf, 0.03])
    np.testing.assert_array_equal(limits.velocity, [1.0, 1.5, 0.1])


def test_acceleration_and_jerk_of_which_a_urdf_knows_nothing_stay_the_robots():
    limits = limits_from_urdf(urdf(), ROBOT)
    np.testing.assert_array_equal(limits.acceleration, [5.0, 6.0, 2.0])
    np.testing.assert_array_equal(limits.jerk, [50.0, 30.0, 20.0])


@pytest.mark.parametrize(
    ("soft", "lower", "upper"),
    [
        ('soft_lower_limit="-0.4" soft_upper_limit="1.9"', -0.4, 1.9),
        ('soft_lower_limit="-9" soft_upper_limit="9"', -0.5, 2.0),
        ('soft_upper_limit="1.5"', -0.5, 1.5),
        ("", -0.5, 2.0),
    ],
)
def test_soft_limits_tighten_and_never_loosen(soft, lower, upper):
    safe = LIFT.replace("</joint>", f'<safety_controller k_velocity="10" {soft}/></joint>')
    limits = limits_from_urdf(urdf(lift=safe), ROBOT)
    assert (limits.lower[0], limits.upper[0]) == (lower, upper)


def test_a_continuous_joint_has_no_end_stops_whatever_the_urdf_writes_there():
    spinning = '<joint name="turn" type="continuous"><limit lower="0" upper="0" velocity="1"/></joint>'
    limits = limits_from_urdf(urdf(turn=spinning), ROBOT)
    assert (limits.lower[1], limits.upper[1], limits.velocity[1]) == (-np.inf, np.inf, 1.0)
    assert limits_from_urdf(urdf(turn='<joint name="turn" type="continuous"/>'), ROBOT).velocity[1] == 2.0


def test_a_joint_that_only_the_robot_gives_end_stops_keeps_them():
    limits = limits_from_urdf(urdf(lift=LIFT.replace("revolute", "continuous")), ROBOT)
    assert (limits.lower[0], limits.upper[0]) == (-1.0, 2.0)


def test_joints_inside_of_other_elements_are_other_joints():
    elsewhere = (
        '<transmission name="t"><joint name="lift"><limit lower="0" upper="0"/></joint></transmission>'
        '<ros2_control name="c" type="system"><joint name="turn"/></ros2_control>'
        '<gazebo><joint name="grip" type="ball"/></gazebo><joint name="mast" type="fixed"/>'
    )
    np.testing.assert_array_equal(
        limits_from_urdf(urdf(more=elsewhere), ROBOT).upper, limits_from_urdf(urdf(), ROBOT).upper
    )


def test_the_simulated_arms_urdf_says_what_its_robot_yaml_says():
    robot = RobotSpec.from_yaml(CONFIG / "robot.yaml")
    limits = limits_from_urdf((CONFIG / "sim_arm.urdf").read_text(encoding="utf-8"), robot)
    for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
        np.testing.assert_array_equal(getattr(limits, name), getattr(robot.limits, name))


BOMB = '<!DOCTYPE robot [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><robot name="&b;"/>'
REFUSED = [
    ("", "the URDF is not XML (no element found"),
    ("<robot>", "the URDF is not XML (no element found"),
    ("lift: -1", "the URDF is not XML (syntax error"),
    (urdf(more="\0"), "the URDF is not XML (not well-formed"),
    (urdf(more="\ud800"), "the URDF is not XML ("),
    (urdf(more="&lower;"), "the URDF is not XML (undefined entity"),
    ("<sdf/>", "the URDF's first element is 'sdf'; allowed: 'robot'"),
    (BOMB, "the URDF has a DOCTYPE; allowed: none"),
    ('<!DOCTYPE robot SYSTEM "file:///etc/passwd"><robot/>', "the URDF has a DOCTYPE; allowed: none"),
    (" " * 16_000_001, "the URDF has 16000001 characters; allowed: at most 16000000"),
    (urdf(turn=""), "joint turn: the URDF has none of that name"),
    (urdf(more=LIFT), "joint lift: the URDF has it more than once; allowed: once"),
    (
        urdf(lift=LIFT.replace("</joint>", '<limit velocity="1"/></joint>')),
        "joint lift: the URDF gives it <limit> more than once; allowed: once",
    ),
    (urdf(lift='<joint name="lift"/>'), "joint lift: the URDF says ''; allowed: revolute, continuous, prismatic"),
    (urdf(lift=LIFT.replace("revolute", "fixed")), "joint lift: the URDF says 'fixed'; allowed: revolute"),
    (urdf(lift=LIFT.replace("revolute", "prismatic")), "joint lift: the robot says revolute, the URDF prismatic"),
    (urdf(turn=TURN.replace("continuous", "revolute")), "joint turn: the robot says continuous, the URDF revolute"),
    (urdf(lift='<joint name="lift" type="revolute"/>'), "joint lift: the URDF gives it no <limit>"),
    (urdf(lift=LIFT.replace('velocity="4"', "")), "joint lift: the URDF's velocity is missing; allowed: a finite"),
    (urdf(lift=LIFT.replace('"4"', '"0"')), "joint lift: the URDF's velocity is 0; allowed: >= 1e-06"),
    (urdf(lift=LIFT.replace('"4"', '"-4"')), "joint lift: the URDF's velocity is -4; allowed: >= 1e-06"),
    (urdf(lift=LIFT.replace('"-0.5"', '"nan"')), "joint lift: the URDF's lower is 'nan'; allowed: a finite number"),
    (urdf(lift=LIFT.replace('"3"', '"1e999"')), "joint lift: the URDF's upper is '1e999'; allowed: a finite number"),
    (urdf(lift=LIFT.replace('"3"', '"1_0"')), "joint lift: the URDF's upper is '1_0'; allowed: a finite number"),
    (urdf(lift=LIFT.replace('"3"', '"${pi}"')), "joint lift: the URDF's upper is '${pi}'; allowed: a finite number"),
    (urdf(lift=LIFT.replace('"3"', '"-1"')), "joint lift: the URDF's lower is -0.5 and upper -1; allowed: lower <"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_urdf_that_does_not_fit_gives_one_sentence(text, sentence):
    with pytest.raises(UrdfError) as caught:
        limits_from_urdf(text, ROBOT)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("lower", "upper"), [("2", "3"), ("0", "0"), ("-3", "-1")])
def test_a_joint_that_robot_and_urdf_together_leave_no_range_is_named(lower, upper):
    lift = LIFT.replace('"-0.5"', f'"{lower}"').replace('upper="3"', f'upper="{upper}"')
    with pytest.raises(LimitsError, match=r"^joint lift: its limits together leave it lower = "):
        limits_from_urdf(urdf(lift=lift), ROBOT)


def test_random_damage_gives_limits_within_the_robots_or_one_sentence():
    pick = random.Random(0)
    whole = urdf()
    sound = 0
    for _ in range(2000):
        text = list(whole)
        for _ in range(pick.randrange(1, 4)):
            text[pick.randrange(len(text))] = pick.choice(["", "<", ">", '"', "&", "0", "9", "-", "e", "é", "\0"])
        with contextlib.suppress(MaskACTError):
            limits = limits_from_urdf("".join(text), ROBOT)
            assert (limits.lower >= ROBOT.lower).all()
            assert (limits.upper <= ROBOT.upper).all()
            assert (limits.velocity <= ROBOT.velocity).all()
            sound += 1
    assert 0 < sound < 2000
