"""The robot's description: what is refused and how, the round trip, and the differences between two robots."""

import contextlib
import copy
import dataclasses
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import Camera, Controller, Joint, RobotError, RobotSpec
from maskact_ros.data.bags.contract import Contract

ROOT = Path(__file__).resolve().parents[2]
ROBOT_YAML = ROOT / "config/robot.yaml"
VALUES = {
    "name": "arm",
    "policy_rate_hz": 30,
    "joint_states_topic": "joint_states",
    "command_topic": "command",
    "joints": [
        {"name": "lift", "lower": -1, "upper": 1.5, "velocity": 2, "acceleration": 10},
        {"name": "turn", "type": "continuous", "velocity": 2.0, "acceleration": 10.0},
        {"name": "grip", "type": "prismatic", "lower": 0.0, "upper": 0.04, "velocity": 0.2, "acceleration": 2.0},
    ],
    "cameras": [{"name": "top", "image_topic": "image_raw", "width": 640, "height": 480}],
}


CONTROLLERS = [
    {"command_topic": "arm_controller/commands", "joints": ["turn", "lift"]},
    {"command_topic": "/hand/commands", "joints": ["grip"]},
]


def changed(*path, to):
    """The robot's description with one entry changed, or removed when `to` is None."""
    values = copy.deepcopy(VALUES | ({"controllers": CONTROLLERS} if path[0] == "controllers" else {}))
    place = values
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return values


REFUSED = [
    (changed("name", to=""), "robot: name is ''", "a text"),
    (changed("name", to=3), "robot: name is 3", "a text"),
    (changed("name", to=None), "robot: name is missing", ""),
    (changed("colour", to="red"), "robot: the entry is 'colour'", "name, policy_rate_hz"),
    (changed("policy_rate_hz", to="fast"), "robot: policy_rate_hz is 'fast'", "a finite number"),
    (changed("policy_rate_hz", to=True), "robot: policy_rate_hz is True", "a finite number"),
    (changed("policy_rate_hz", to=10**400), "robot: policy_rate_hz is 1000", "a finite number"),
    (changed("policy_rate_hz", to=0), "policy_rate_hz is 0.0", ">= 0.1 and <= 1000"),
    (changed("policy_rate_hz", to=1001), "policy_rate_hz is 1001.0", ">= 0.1 and <= 1000"),
    (changed("joints", to=[]), "joints is []", "at least one"),
    (changed("joints", to={"a": 1}), "joints is {'a': 1}", "a list"),
    (changed("joints", 0, to="lift"), "joints[0] is 'lift'", "a mapping of name, type"),
    (changed("joints", 2, "name", to="lift"), "joints is 'lift'", "each name once"),
    (changed("joints", 0, "type", to="hinge"), "joints[0]: type is 'hinge'", "revolute, continuous, prismatic"),
    (changed("joints", 0, "type", to=["revolute"]), "joints[0]: type is ['revolute']", "one of"),
    (changed("joints", 0, "lower", to=None), "joint lift: lower and upper is (-inf, 1.5)", "lower < upper"),
    (changed("joints", 0, "lower", to=1.5), "joint lift: lower and upper is (1.5, 1.5)", "lower < upper"),
    (changed("joints", 0, "lower", to=math.nan), "joints[0]: lower is nan", "a finite number"),
    (changed("joints", 1, "upper", to=3.0), "joint turn: lower and upper is (-inf, 3.0)", "none on a continuous joint"),
    (changed("joints", 0, "velocity", to=0), "joint lift: velocity is 0.0", "a number >= 1e-06"),
    (changed("joints", 0, "velocity", to=None), "joints[0]: velocity is missing", ""),
    (changed("joints", 0, "acceleration", to=-1), "joint lift: acceleration is -1.0", "a number >= 1e-06"),
    (changed("joints", 0, "acceleration", to=1e-320), "joint lift: acceleration is 1e-320", "a number >= 1e-06"),
    (changed("joints", 0, "jerk", to=0), "joint lift: jerk is 0.0", "a number >= 1e-06 and <= 1e+07"),
    (changed("joints", 0, "jerk", to=1e8), "joint lift: jerk is 100000000.0", "a number >= 1e-06 and <= 1e+07"),
    (changed("joints", 0, "jerk", to="hard"), "joints[0]: jerk is 'hard'", "a finite number"),
    (changed("joints", 2, "gripper", to="yes"), "joints[2]: gripper is 'yes'", "true or false"),
    (changed("cameras", to=[]), "cameras is []", "at least one"),
    (changed("cameras", 0, "width", to=0), "camera top: width is 0", "an integer >= 1"),
    (changed("cameras", 0, "width", to=10**400), "camera top: width is 1000", "<= 65535"),
    (changed("cameras", 0, "height", to=480.0), "cameras[0]: height is 480.0", "an integer"),
    (changed("controllers", to={}), "controllers is {}", "a list"),
    (changed("controllers", 0, to="arm"), "controllers[0] is 'arm'", "a mapping of command_topic, joints"),
    (changed("controllers", 0, "rate", to=1), "controllers[0]: the entry is 'rate'", "command_topic, joints"),
    (changed("controllers", 0, "command_topic", to=None), "controllers[0]: command_topic is missing", ""),
    (changed("controllers", 0, "joints", to="lift"), "controllers[0]: joints is 'lift'", "a list of names"),
    (changed("controllers", 0, "joints", 0, to=3), "controllers[0]: joints is [3, 'lift']", "a list of names"),
    (changed("controllers", 0, "joints", to=[]), "controller arm_controller/commands: joints is []", "at least one"),
    (
        changed("controllers", 0, "joints", 0, to="twist"),
        "controller arm_controller/commands: the joint is 'twist'",
        "lift, turn, grip",
    ),
    (
        changed("controllers", 1, "joints", 0, to="lift"),
        "controller arm_controller/commands: the joint is 'lift'",
        "each in one controller, once",
    ),
    (changed("controllers", 1, to=None), "controllers: grip is in none", "each joint in one controller"),
    (
        changed("controllers", 0, "command_topic", to="/hand/commands"),
        "controller /hand/commands: command_topic is '/hand/commands'",
        "each once",
    ),
    (
        changed("controllers", 0, "command_topic", to="command"),
        "controller command: command_topic is 'command'",
        "not the robot's own",
    ),
    (None, "robot is None", "a mapping of name, policy_rate_hz"),
]


@pytest.mark.parametrize(("values", "named", "allowed"), REFUSED, ids=[named for _, named, _ in REFUSED])
def test_a_wrong_entry_gives_one_sentence(values, named, allowed):
    with pytest.raises(RobotError) as caught:
        RobotSpec.from_dict(values)
    assert str(caught.value).startswith(named)
    assert allowed in str(caught.value).partition("; allowed: ")[2]
    assert "\n" not in str(caught.value)


def test_a_limit_given_twice_is_named(tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(ROBOT_YAML.read_text().replace("lower: -1.6,", "lower: -1.6, lower: -99,", 1), encoding="utf-8")
    with pytest.raises(MaskACTError, match=r"robot\.yaml: 'lower' is given 2 times"):
        RobotSpec.from_yaml(file)


def test_a_large_value_makes_no_large_sentence():
    with pytest.raises(RobotError) as caught:
        RobotSpec.from_dict(changed("name", to=[["x" * 9] * 99] * 99))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["joints: [", "- \x00", "name: 2024-99-99", ""])
def test_a_file_that_is_no_robot_is_named(tmp_path, text):
    file = tmp_path / "robot.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MaskACTError, match=r"robot\.yaml: ") as caught:
        RobotSpec.from_yaml(file)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(MaskACTError, match=r"absent\.yaml: cannot be read \(No such file or directory\)"):
        RobotSpec.from_yaml(tmp_path / "absent.yaml")


def test_random_changes_give_a_robot_or_a_robot_error():
    pick = random.Random(0)
    replacements = [
        None,
        True,
        0,
        -1,
        7,
        10**400,
        0.5,
        math.nan,
        math.inf,
        -math.inf,
        "",
        "x",
        [],
        [1],
        {},
        {"name": 1},
    ]
    for _ in range(1000):
        values = copy.deepcopy(VALUES | {"controllers": CONTROLLERS})
        places = [values, *values["joints"], *values["cameras"], *values["controllers"]]
        for place in pick.sample(places, pick.randrange(1, 4)):
            place[pick.choice(list(place))] = pick.choice(replacements)
        with contextlib.suppress(RobotError):
            robot = RobotSpec.from_dict(values)
            assert RobotSpec.from_dict(json.loads(json.dumps(robot.to_dict()))) == robot


def test_the_description_survives_json_and_yaml(tmp_path):
    grouped = RobotSpec.from_dict(VALUES | {"controllers": CONTROLLERS})
    for robot in (RobotSpec.from_dict(VALUES), grouped, RobotSpec.from_yaml(ROBOT_YAML)):
        assert RobotSpec.from_dict(robot.to_dict()) == robot
        assert RobotSpec.from_dict(json.loads(json.dumps(robot.to_dict()))) == robot
        file = tmp_path / "robot.yaml"
        file.write_text(yaml.safe_dump(robot.to_dict()), encoding="utf-8")
        assert RobotSpec.from_yaml(file) == robot


def test_limits_come_as_vectors_in_the_joints_order():
    robot = RobotSpec.from_dict(VALUES)
    assert robot.joint_names == ("lift", "turn", "grip")
    np.testing.assert_array_equal(robot.lower, [-1.0, -np.inf, 0.0])
    np.testing.assert_array_equal(robot.upper, [1.5, np.inf, 0.04])
    np.testing.assert_array_equal(robot.velocity, [2.0, 2.0, 0.2])
    np.testing.assert_array_equal(robot.acceleration, [10.0, 10.0, 2.0])
    np.testing.assert_array_equal(robot.continuous, [False, True, False])
    assert robot.policy_period_ns == 33_333_333


def test_a_jerk_nobody_has_said_lets_a_joint_reach_its_full_acceleration_in_a_tenth_of_a_second():
    robot = RobotSpec.from_dict(changed("joints", 0, "jerk", to=40))
    np.testing.assert_array_equal(robot.limits.jerk, [40.0, 100.0, 20.0])
    assert robot.stopping_s == pytest.approx(2.0 / 10.0 + 10.0 / 40.0)  # of lift, the slowest
    assert RobotSpec.from_dict(VALUES).stopping_s == pytest.approx(0.2 + 0.1)


def test_the_joints_that_hold_things_are_told_apart():
    np.testing.assert_array_equal(RobotSpec.from_dict(VALUES).grippers, [False, False, False])
    robot = RobotSpec.from_dict(changed("joints", 2, "gripper", to=True))
    np.testing.assert_array_equal(robot.grippers, [False, False, True])
    assert RobotSpec.from_yaml(ROBOT_YAML).grippers.tolist() == 6 * [False] + [True]


def test_controllers_share_the_joints_each_in_its_own_order():
    robot = RobotSpec.from_dict(VALUES | {"controllers": CONTROLLERS})
    assert [(c.command_topic, c.joints) for c in robot.controllers] == [
        ("arm_controller/commands", ("turn", "lift")),
        ("/hand/commands", ("grip",)),
    ]
    assert RobotSpec.from_dict(VALUES | {"controllers": []}) == RobotSpec.from_dict(VALUES)


def test_bags_of_a_robot_with_controllers_are_converted_from_the_topic_of_the_whole_vector(tmp_path):
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(VALUES | {"controllers": CONTROLLERS}))
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump({"task": "lift it", "namespace": "/arm"}))
    contract = Contract.from_yaml(tmp_path / "contract.yaml")
    assert contract.topics == ("/arm/image_raw", "/arm/joint_states", "/arm/command")
    assert contract.action_joints == ("lift", "turn", "grip")


def test_the_copy_in_a_checkpoint_says_only_what_is_not_the_default():
    robot = RobotSpec.from_dict(VALUES)
    said = {"name": "lift", "type": "revolute", "lower": -1.0, "upper": 1.5, "velocity": 2.0, "acceleration": 10.0}
    assert robot.to_dict()["joints"][0] == said
    assert set(robot.to_dict()) == set(VALUES)
    lift = dataclasses.replace(robot.joints[0], jerk=40.0, gripper=True)
    assert dataclasses.replace(robot, joints=(lift,)).to_dict()["joints"] == [said | {"jerk": 40.0, "gripper": True}]


def test_the_robot_of_a_checkpoint_made_before_jerk_and_grippers_still_fits():
    content = json.loads((ROOT / "models/demo/config.json").read_text())
    robot = RobotSpec.from_dict(content["robot"])
    assert RobotSpec.from_yaml(ROBOT_YAML).differences(robot) == []


def test_a_second_camera_is_refused_by_name():
    second = VALUES["cameras"][0] | {"name": "wrist"}
    robot = RobotSpec.from_dict(VALUES | {"cameras": [*VALUES["cameras"], second]})
    with pytest.raises(RobotError, match=r"cameras beyond top are not supported yet: remove wrist"):
        _ = robot.only_camera
    assert RobotSpec.from_dict(VALUES).only_camera.name == "top"


def test_a_robot_does_not_differ_from_itself_nor_by_what_a_policy_does_not_see():
    robot = RobotSpec.from_dict(VALUES)
    assert robot.differences(robot) == []
    gentler = [
        dataclasses.replace(joint, velocity=0.1, acceleration=0.1, jerk=0.5, gripper=True) for joint in robot.joints
    ]
    elsewhere = dataclasses.replace(
        robot,
        name="other",
        command_topic="elsewhere",
        joints=tuple(gentler),
        controllers=(Controller(command_topic="all", joints=robot.joint_names),),
    )
    assert elsewhere.differences(robot) == []


def test_every_difference_is_named_with_both_values():
    robot = RobotSpec.from_dict(VALUES)
    lift, turn, grip = robot.joints
    top = robot.cameras[0]

    def differences(**changes):
        return dataclasses.replace(robot, **changes).differences(robot)

    assert differences(joints=(turn, lift, grip)) == [
        "joints: robot has ['turn', 'lift', 'grip'], checkpoint ['lift', 'turn', 'grip']"
    ]
    assert differences(joints=(dataclasses.replace(lift, type="prismatic"), turn, grip)) == [
        "joint lift: robot says prismatic, checkpoint revolute"
    ]
    assert differences(policy_rate_hz=15.0) == ["policy_rate_hz: robot has 15, checkpoint 30"]
    assert differences(cameras=(dataclasses.replace(top, width=320),)) == [
        "cameras: robot has top 320x480, checkpoint top 640x480"
    ]
    other = RobotSpec(
        name="other",
        policy_rate_hz=10.0,
        joint_states_topic="a",
        command_topic="b",
        joints=(Joint(name="slide", lower=0.0, upper=1.0, velocity=1.0, acceleration=1.0),),
        cameras=(Camera(name="side", image_topic="c", width=2, height=2),),
    )
    found = other.differences(robot, mine="the node", theirs="the dataset")
    assert [sentence.partition(":")[0] for sentence in found] == ["joints", "policy_rate_hz", "cameras"]
    assert all("the node has" in sentence and "the dataset" in sentence for sentence in found)
