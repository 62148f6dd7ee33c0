"""What robot.yaml knows of the joints tells degrees from radians, one joint from another, and a second publisher."""

import numpy as np
import pytest
import yaml
from support import bags

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.datasets.motion_check import MotionCheck
from maskact_ros.data.inspection.findings import Finding
from maskact_ros.data.inspection.inspection import inspect
from maskact_ros.data.inspection.validate import validate

ROWS = 80
RATE_HZ = 10.0


def robot(tmp_path, **changes):
    """Two turning joints and a gripper."""
    joint = {"lower": -2.5, "upper": 2.5, "velocity": 1.5, "acceleration": 8.0}
    values = {
        "name": "three_joints",
        "policy_rate_hz": RATE_HZ,
        "joint_states_topic": "/joints",
        "command_topic": "/command",
        "joints": [
            {"name": "hip", **joint},
            {"name": "knee", **joint},
            {
                **joint,
                "name": "claw",
                "type": "prismatic",
                "lower": 0.0,
                "upper": 0.08,
                "velocity": 0.3,
                "gripper": True,
            },
        ],
        "cameras": [{"name": "top", "image_topic": "/image", "width": 8, "height": 8}],
    }
    (tmp_path / "three.yaml").write_text(yaml.safe_dump(values | changes))
    return RobotSpec.from_yaml(tmp_path / "three.yaml")


def motion():
    """States that move slowly within the limits, and actions that are where they go next."""
    s = np.arange(ROWS + 1) / RATE_HZ
    path = np.stack([0.9 * np.sin(s), 0.7 * np.cos(0.8 * s), 0.04 + 0.02 * np.sin(s)], 1)
    return path[:-1], path[1:] + 0.01


def doubts(tmp_path, states, actions):
    check = MotionCheck(robot(tmp_path))
    check.add_episode(states[: ROWS // 2], actions[: ROWS // 2])
    check.add_episode(states[ROWS // 2 :], actions[ROWS // 2 :])
    return check.doubts()


def test_a_motion_within_limits_raises_no_doubt(tmp_path):
    assert doubts(tmp_path, *motion()) == []


@pytest.mark.parametrize("kind", ["states", "actions"])
def test_degrees_are_told_from_radians_with_share_and_example(tmp_path, kind):
    states, actions = motion()
    scale = np.array([180 / np.pi, 1, 1])
    found = doubts(
        tmp_path, states * scale if kind == "states" else states, actions * scale if kind == "actions" else actions
    )
    (doubt,) = [doubt for doubt in found if "beyond" in doubt.text]
    assert doubt.certain
    assert doubt.text.startswith("hip: 9")
    assert f"of its {kind} lie beyond robot.yaml's limits -2.5 to 2.5, such as " in doubt.text
    assert "frame" in doubt.text
    assert doubt.text.endswith("are they degrees?")


def test_millimetres_are_told_from_metres(tmp_path):
    states, actions = motion()
    found = doubts(tmp_path, states * [1, 1, 1000], actions * [1, 1, 1000])
    assert any(doubt.certain and doubt.text.endswith("are they mm?") for doubt in found)


def test_a_gripper_that_is_told_to_close_further_than_it_can_is_said_and_not_refused(tmp_path):
    states, actions = motion()
    actions[::3, 2] = -0.01
    (doubt,) = doubts(tmp_path, states, actions)
    assert not doubt.certain
    assert doubt.text.startswith("claw: 33.8% of its actions")


def test_commands_in_the_wrong_order_are_told_by_whom_they_are_followed(tmp_path):
    states, actions = motion()
    found = doubts(tmp_path, states, actions[:, [1, 0, 2]])
    assert [doubt.certain for doubt in found] == [True, True]
    assert found[0].text.startswith("hip: its commands are followed by knee, at 0.0")
    assert "action: joints" in found[1].text


def test_two_arms_that_move_alike_and_a_joint_that_lags_raise_no_doubt(tmp_path):
    states, actions = motion()
    states[:, 1] = states[:, 0] + 0.002
    actions[:, 1] = actions[:, 0]
    assert doubts(tmp_path, states, actions) == []
    lagging = np.roll(states, 4, axis=0)
    lagging[:4] = states[0]
    assert doubts(tmp_path, lagging, actions) == []


def test_zeros_between_other_states_are_a_second_publisher(tmp_path):
    states, actions = motion()
    states[1] = states[0]
    states[5::8] = 0
    found = doubts(tmp_path, states, actions)
    (told,) = [doubt.text for doubt in found if doubt.certain]
    assert told.startswith(
        "hip, knee, claw: jump to exactly 0 together, 10 times in 80 rows, such as in episode 0, frame"
    )


@pytest.mark.parametrize(("times", "certain"), [(3, False), (15, True)])
def test_speeds_beyond_the_limit_are_said_and_refused_where_no_arm_can_be_so_fast(tmp_path, times, certain):
    states, actions = motion()
    states[20:40:2, 0] += times * 1.5 / RATE_HZ
    found = [doubt for doubt in doubts(tmp_path, states, actions) if "faster" in doubt.text]
    assert [doubt.certain for doubt in found] == [certain]
    assert f"up to {times}" in found[0].text


def test_a_single_damaged_state_raises_no_doubt(tmp_path):
    states, actions = motion()
    states[30] = 99
    assert not any(doubt.certain for doubt in doubts(tmp_path, states, actions))


def limited(tmp_path, **joint):
    """A contract whose robot's joints have other limits."""
    path = bags.contract(tmp_path / "setup", masks=None)
    values = yaml.safe_load((path.parent / "robot.yaml").read_text())
    values["joints"][0] |= joint
    (path.parent / "robot.yaml").write_text(yaml.safe_dump(values))
    return Contract.from_yaml(path)


def test_convert_refuses_what_cannot_be_right_and_notes_what_is_odd(tmp_path):
    bag = bags.write(tmp_path / "bag", bags.recording(30))
    with pytest.raises(MaskACTError, match=r"bag: .*lift: 80\.0% of its states lie beyond .* -5 to 5"):
        convert([bag], limited(tmp_path, lower=-5.0, upper=5.0), tmp_path / "out", pictures="png")
    done = convert([bag], limited(tmp_path, lower=-5.0, upper=26.0), tmp_path / "out", pictures="png")
    assert any(note.startswith("lift: ") and "of its states lie beyond" in note for note in done.notes)


def test_validate_says_what_cannot_be_right_of_any_dataset(tmp_path):
    bag = bags.write(tmp_path / "bag", bags.recording(30))
    convert([bag], limited(tmp_path), tmp_path / "out", pictures="png")
    path = tmp_path / "out/meta/maskact/robot.yaml"
    values = yaml.safe_load(path.read_text())
    values["joints"][0] |= {"velocity": 0.5}
    path.write_text(yaml.safe_dump(values))
    found = [str(item) for item in validate(tmp_path / "out") if isinstance(item, Finding)]
    assert any(
        "lift: 100.0% of its steps are faster than 1.5 times robot.yaml's velocity 0.5" in text for text in found
    )


def test_inspect_marks_a_joint_that_never_moves(tmp_path):
    messages = [
        (topic, at, bags.joints_message(at, (message.position[0], 0.7)) if topic == "/arm/joints" else message)
        for topic, at, message in bags.recording(20)
    ]
    convert([bags.write(tmp_path / "bag", messages)], limited(tmp_path), tmp_path / "out", pictures="png")
    inspect(tmp_path / "out", tmp_path / "page.html", episodes=1)
    page = (tmp_path / "page.html").read_text()
    assert page.count("never moves") == 1
    assert page.index("<td>grip</td>") < page.index("never moves")
