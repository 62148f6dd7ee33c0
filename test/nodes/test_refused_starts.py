"""What a node refuses to start with: one sentence that names the mistake, exit code 1 or 2, no stack trace."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import yaml

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo, PolicySpec, write_checkpoint
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import UNKNOWN_ROBOT


def assert_refused(bench, executable: str, *texts: str, **options) -> None:
    """The node ends by itself with an exit code, and one line of its output has all the texts."""
    program = bench.start(executable, **options)
    assert program.wait(within_s=60.0) in (1, 2), program.output
    assert "Traceback" not in program.output
    assert "a bug" not in program.output
    complaints = [line for line in program.output.splitlines() if all(text in line for text in texts)]
    assert len(complaints) == 1, f"no single line has {texts}:\n{program.output}"


def _remove_the_folder(folder):
    shutil.rmtree(folder)
    return "there is no such folder"


def _remove_the_manifest(folder):
    (folder / "manifest.json").unlink()
    return "not a checkpoint, it has no manifest.json"


def _remove_the_weights(folder):
    (folder / WEIGHTS).unlink()
    return "model.safetensors: missing"


def _truncate_the_weights(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    return "model.safetensors: truncated, it has"


def _edit_the_configuration(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"n_action_steps": 10', '"n_action_steps": 11'))
    return "config.json: its content has changed since the checkpoint was written"


def _empty_the_manifest(folder):
    (folder / "manifest.json").write_text("")
    return "manifest.json: not JSON"


@pytest.mark.parametrize(
    "spoil",
    [
        _remove_the_folder,
        _remove_the_manifest,
        _remove_the_weights,
        _truncate_the_weights,
        _edit_the_configuration,
        _empty_the_manifest,
    ],
)
def test_a_damaged_checkpoint_is_refused_by_file(module_bench, policy, tmp_path, spoil):
    folder = tmp_path / "damaged"
    shutil.copytree(policy, folder)
    sentence = spoil(folder)
    assert_refused(module_bench, "action_publisher", str(folder), sentence, policy_path=str(folder))


def test_weights_of_the_right_size_with_other_content_are_refused(module_bench, policy, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(policy, folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert_refused(module_bench, "inference", WEIGHTS, "its content has changed", policy_path=str(folder))


def test_a_missing_policy_path_is_asked_for(module_bench):
    assert_refused(module_bench, "action_publisher", "policy_path is not set", policy_path="")


def test_every_difference_between_robot_and_checkpoint_is_named(module_bench, tmp_path):
    values = yaml.safe_load(shared("config/robot.yaml").read_text())
    values["policy_rate_hz"] = 20.0
    values["joints"][0]["type"], values["joints"][6]["type"] = "prismatic", "revolute"
    values["cameras"][0]["width"] = 320
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(yaml.safe_dump(values))
    assert_refused(
        module_bench,
        "action_publisher",
        "is for another robot",
        "joint shoulder_pan: robot says prismatic, checkpoint revolute",
        "joint gripper: robot says revolute, checkpoint prismatic",
        "policy_rate_hz: robot has 20, checkpoint 30",
        "cameras: robot has top 320x480, checkpoint top 640x480",
        robot_file=str(robot_file),
    )


def test_a_robot_with_its_joints_in_another_order_is_another_robot(module_bench, policy, robot, tmp_path):
    info = CheckpointInfo.read(policy)
    values = {name: getattr(info, name) for name in PolicySpec.__dataclass_fields__}
    turned = PolicySpec(**values | {"robot": replace(robot, joints=(*robot.joints[1:], robot.joints[0]))})
    folder = tmp_path / "other_robot"
    write_checkpoint(folder, turned, lambda path: shutil.copy(policy / WEIGHTS, path))
    robot_file = str(shared("config/robot.yaml"))
    assert_refused(
        module_bench,
        "action_publisher",
        "is for another robot: joints: robot has ['shoulder_pan', 'shoulder_lift'",
        "checkpoint ['shoulder_lift', ",
        policy_path=str(folder),
        robot_file=robot_file,
    )


@pytest.mark.parametrize("executable", ["camera_encoder", "sim_robot"])
def test_a_second_camera_is_refused_by_name(module_bench, policy, robot, tmp_path, executable):
    cameras = (*robot.cameras, replace(robot.cameras[0], name="wrist"))
    two_eyed = replace(robot, cameras=cameras)
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(json.dumps(two_eyed.to_dict()))  # JSON is YAML
    options = {"robot_file": str(robot_file)}
    if executable == "camera_encoder":
        info = CheckpointInfo.read(policy)
        values = {name: getattr(info, name) for name in PolicySpec.__dataclass_fields__}
        folder = tmp_path / "two_eyed"
        write_checkpoint(
            folder, PolicySpec(**values | {"robot": two_eyed}), lambda path: shutil.copy(policy / WEIGHTS, path)
        )
        options["policy_path"] = str(folder)
    assert_refused(module_bench, executable, "cameras beyond top are not supported yet: remove wrist", **options)


def test_a_missing_robot_file_is_named(module_bench, tmp_path):
    missing = str(tmp_path / "nobody.yaml")
    for executable in ("action_publisher", "sim_robot"):
        assert_refused(module_bench, executable, missing, "cannot be read (No such file", robot_file=missing)


@pytest.mark.parametrize(
    ("parameters", "texts"),
    [
        ({"control_rate_hz": "fast"}, ("control_rate_hz is 'fast'", "allowed: a number")),
        ({"control_rate_hz": 5000.0}, ("control_rate_hz is 5000.0", "allowed: 10 to 1000")),
        ({"autostart": 3}, ("autostart is 3", "allowed: true or false")),
        ({"use_sim_time": 7}, ("use_sim_time is of a wrong type", "allowed: true or false")),
        ({"contrl_rate_hz": 50.0}, ("unknown parameter contrl_rate_hz (value 50.0)", "did you mean control_rate_hz?")),
        ({"chunk_size": 50}, ("chunk_size is 50", "the checkpoint was trained with 20")),
        ({"n_action_steps": 21}, ("n_action_steps is 21", "at most chunk_size, which is 20")),
        ({"temporal_ensemble_coeff": "0.01"}, ("temporal_ensemble_coeff is", "0.01")),
        ({"normalization_mapping.STATE": "MIN_MAX"}, ("normalization_mapping.STATE is 'MIN_MAX'", "'MEAN_STD'")),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_value_and_what_is_allowed(module_bench, parameters, texts):
    assert_refused(module_bench, "action_publisher", *texts, **parameters)


@pytest.mark.parametrize(
    ("parameters", "texts"),
    [
        ({"stamp_source": "sunrise"}, ("stamp_source is 'sunrise'", "allowed: header, receipt")),
        ({"device": "abacus"}, ("device is 'abacus'", "allowed: auto, cpu, cuda")),
    ],
)
def test_a_wrong_choice_is_refused_with_what_is_allowed(module_bench, parameters, texts):
    assert_refused(module_bench, "camera_encoder", *texts, **parameters)


def test_a_misspelled_policy_path_is_named_and_not_called_missing(module_bench):
    assert_refused(
        module_bench, "action_publisher", "policy_pth", "did you mean policy_path?", policy_path="", policy_pth="x"
    )


def test_an_argument_that_no_node_knows_is_refused(module_bench):
    program = module_bench.run([sys.executable, "-m", "maskact_ros.nodes.action_publisher", "--bogus"])
    assert program.wait(within_s=60.0) == 1
    assert "unknown argument --bogus; allowed: --help, --ros-args" in program.output
    assert "Traceback" not in program.output


def test_limits_that_nobody_has_said_are_refused_until_a_robot_file_says_them(module_bench, policy, robot, tmp_path):
    info = CheckpointInfo.read(policy)
    values = {name: getattr(info, name) for name in PolicySpec.__dataclass_fields__}
    guessed = replace(robot, name=UNKNOWN_ROBOT)
    folder = tmp_path / "imported"
    write_checkpoint(
        folder, PolicySpec(**values | {"robot": guessed}), lambda path: shutil.copy(policy / WEIGHTS, path)
    )
    assert_refused(
        module_bench, "action_publisher", str(folder), "does not know its robot's limits", policy_path=str(folder)
    )
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(json.dumps(robot.to_dict()))
    module_bench.start_active("action_publisher", policy_path=str(folder), robot_file=str(robot_file)).kill()


def test_a_params_file_that_is_not_one_is_refused(module_bench, tmp_path):
    params_file = tmp_path / "maskact.yaml"
    params_file.write_text("control_rate_hz: [unfinished")
    program = module_bench.start("action_publisher", params_file=params_file)
    assert program.wait(within_s=60.0) in (1, 2)
    assert "Traceback" not in program.output
    assert str(params_file) in program.output
