"""The commands: an untrained checkpoint and one prediction; every mistake is one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.reference_checkpoint import BACKBONE

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.policy.commands import init_checkpoint, predict_once, shrink
from maskact_ros.policy.model.backbone import build_backbone, canonical_name
from maskact_ros.policy.model.weights import load_checkpoint, save_checkpoint
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def policy_json(make_spec, tmp_path):
    """A policy's JSON beside its backbone's folder, of which only the configuration is there."""
    (tmp_path / "dino").mkdir()
    (tmp_path / "dino" / "config.json").write_text(json.dumps(BACKBONE))
    path = tmp_path / "policy.json"
    values = replace(make_spec().config, dino_model_dir="dino", use_lora=True).to_dict()
    path.write_text(json.dumps(values | {"mask_classes": ["nothing", "arm", "cup"], "geometry": {"mode": "letterbox"}}))
    return path


@pytest.fixture
def checkpoint(policy_json, robot, tmp_path):
    return init_checkpoint(policy_json, tmp_path / "checkpoint", robot)


def test_the_demo_policy_runs_within_the_robots_limits(tmp_path):
    robot = RobotSpec.from_yaml(CONFIG / "robot.yaml")
    info = init_checkpoint(CONFIG / "demo_policy.json", tmp_path / "checkpoint", robot)
    assert info.mask_classes == ("background", "robot", "cube", "bin")
    size = info.config.image_size
    encoding = EncoderRuntime.load(info).encode(np.full((size, size, 3), 90, np.uint8))
    middle = (robot.lower + robot.upper) / 2
    chunk = PlannerRuntime.load(info).predict(encoding.features, encoding.patch_labels, middle)
    assert chunk.shape == (40, 7)
    assert (chunk > robot.lower).all()
    assert (chunk < robot.upper).all()


def test_the_sections_of_a_policys_json_reach_the_checkpoint(checkpoint):
    info = CheckpointInfo.read(checkpoint.folder)
    assert info.mask_classes == ("nothing", "arm", "cup")
    assert info.geometry.mode == "letterbox"


def test_a_shrunk_checkpoint_is_half_as_large_and_plans_nearly_the_same(checkpoint, tmp_path):
    shrunk = shrink(checkpoint.folder, tmp_path / "shrunk")
    sizes = [(info.folder / WEIGHTS).stat().st_size for info in (checkpoint, shrunk)]
    assert sizes[1] < 0.6 * sizes[0]
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    chunks = []
    for info in (checkpoint, shrunk):
        encoding = EncoderRuntime.load(info).encode(image)
        chunks.append(PlannerRuntime.load(info).predict(encoding.features, encoding.patch_labels, np.zeros(3)))
    np.testing.assert_allclose(chunks[1], chunks[0], atol=5e-3)
    assert not np.array_equal(chunks[1], chunks[0])


def test_a_weight_beyond_half_precision_is_one_sentence(checkpoint, tmp_path):
    model = load_checkpoint(checkpoint)
    with torch.no_grad():
        model.planner.act.action_head.bias.fill_(1e5)
    large = save_checkpoint(tmp_path / "large", model).folder
    with pytest.raises(MaskACTError, match=r"tensor planner\.act\.action_head\.bias is too large for half precision"):
        shrink(large, tmp_path / "shrunk")
    assert not (tmp_path / "shrunk").exists()


def test_a_checkpoints_own_configuration_makes_another_like_it(checkpoint, robot, tmp_path):
    path = tmp_path / "again.json"
    path.write_bytes((checkpoint.folder / "config.json").read_bytes())
    again = init_checkpoint(path, tmp_path / "again", robot)
    assert again.weights_hash == checkpoint.weights_hash
    assert again.config == checkpoint.config


def test_the_seed_decides_the_weights(policy_json, robot, tmp_path):
    hashes = [init_checkpoint(policy_json, tmp_path / str(i), robot, seed=i % 2).weights_hash for i in range(3)]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("release", [4, 5])
def test_the_backbones_weights_come_from_its_folder(policy_json, robot, tmp_path, capsys, release):
    torch.manual_seed(99)
    weights = {canonical_name(name): t.clone() for name, t in build_backbone(BACKBONE).state_dict().items()}
    names = {name: name.replace("layer.", "model.layer.", 1) if release == 5 else name for name in weights}
    save_file({names[name]: tensor for name, tensor in weights.items()}, tmp_path / "dino" / "model.safetensors")
    model = load_checkpoint(init_checkpoint(policy_json, tmp_path / "checkpoint", robot))
    assert f"weights of {tmp_path / 'dino'}" in capsys.readouterr().out
    loaded = {
        canonical_name(name).replace(".base_layer.", "."): tensor
        for name, tensor in model.perception.encoder.backbone.state_dict().items()
    }
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_a_backbone_of_another_shape_than_its_configuration_is_one_sentence(policy_json, robot, tmp_path):
    save_file(dict(build_backbone(BACKBONE | {"hidden_size": 24}).state_dict()), tmp_path / "dino/model.safetensors")
    with pytest.raises(MaskACTError, match=r"has the shape .*, the policy's has"):
        init_checkpoint(policy_json, tmp_path / "checkpoint", robot)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "policy.json: unknown parameter colour"),
        ({"mask_classes": ["one"]}, "mask_classes is ['one']"),
        ({"mask_classes": 3}, "mask_classes is 3; allowed: a list of names"),
        ({"geometry": {"mode": "fisheye"}}, "mode is 'fisheye'"),
    ],
)
def test_a_policys_json_that_does_not_fit_is_one_sentence(policy_json, robot, tmp_path, changes, words):
    policy_json.write_text(json.dumps(json.loads(policy_json.read_text()) | changes))
    with pytest.raises(MaskACTError) as error:
        init_checkpoint(policy_json, tmp_path / "checkpoint", robot)
    assert words in str(error.value)


def test_a_prediction_of_stage_1_says_that_its_planner_is_untrained(policy_json, robot, tmp_path, capsys):
    policy_json.write_text(json.dumps(json.loads(policy_json.read_text()) | {"training_stage": "stage1"}))
    init_checkpoint(policy_json, tmp_path / "checkpoint", robot)
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((60, 80, 3), np.uint8))
    predict_once(tmp_path / "checkpoint", tmp_path / "picture.png", [0.1, 0.2, 0.3], tmp_path / "out.npz")
    assert "note: a checkpoint of stage 1" in capsys.readouterr().out


def test_a_prediction_from_a_cameras_picture_is_what_the_runtimes_compute(checkpoint, tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    predict_once(checkpoint.folder, tmp_path / "picture.png", [0.1, 0.2, 0.3], tmp_path / "out.npz")
    written = np.load(tmp_path / "out.npz")
    assert {name: written[name].shape for name in written} == {
        "features": (9, 16),
        "chunk": (6, 3),
        "pixel_logits": (3, 48, 48),
        "patch_labels": (9,),
    }
    encoding = EncoderRuntime.load(checkpoint).encode(checkpoint.geometry.to_model(picture[..., ::-1].copy(), 48))
    np.testing.assert_allclose(written["features"], encoding.features, rtol=2**-10, atol=1e-5)
    np.testing.assert_array_equal(written["patch_labels"], encoding.patch_labels)


@pytest.mark.parametrize(
    ("image", "state", "out", "words"),
    [
        ("absent.png", [0, 0, 0], "out.npz", "absent.png: cannot be read (No such file or directory)"),
        ("text.png", [0, 0, 0], "out.npz", "text.png: its bytes are no picture that is known here; allowed: JPEG, PNG"),
        ("picture.png", [0, 0], "out.npz", "allowed: 3 finite numbers, for joint_0, joint_1, joint_2"),
        ("picture.png", [0, 0, float("nan")], "out.npz", "allowed: 3 finite numbers"),
        ("picture.png", [0, 0, 0], "absent/out.npz", "cannot be written"),
    ],
)
def test_a_prediction_that_cannot_be_made_is_one_sentence(checkpoint, tmp_path, image, state, out, words):
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((48, 48, 3), np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(MaskACTError) as error:
        predict_once(checkpoint.folder, tmp_path / image, state, tmp_path / out)
    assert words in str(error.value)


def test_a_state_beyond_single_precision_is_one_sentence_and_writes_nothing(checkpoint, tmp_path):
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(MaskACTError, match=r"not all of the chunk is finite, .* the state \[1e\+39, 0, 0\]"):
        predict_once(checkpoint.folder, tmp_path / "picture.png", [1e39, 0, 0], tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_prediction_sees_a_file_as_the_nodes_see_the_message(checkpoint, tmp_path):
    picture = np.random.default_rng(1).integers(0, 65536, (60, 80, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    predict_once(checkpoint.folder, tmp_path / "picture.png", [0, 0, 0], tmp_path / "out.npz")
    rgb = np.rint(picture[..., ::-1] / 257).astype(np.uint8)
    encoding = EncoderRuntime.load(checkpoint).encode(checkpoint.geometry.to_model(rgb, 48))
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["features"], encoding.features, rtol=2**-10, atol=1e-5)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_seed_out_of_range_is_one_sentence(policy_json, robot, tmp_path, seed):
    with pytest.raises(MaskACTError, match=f"the seed is {seed}; allowed: an integer >= 0"):
        init_checkpoint(policy_json, tmp_path / "checkpoint", robot, seed=seed)


@pytest.mark.parametrize("folder", ["policy.json", "dinov3-vitb16"])
def test_a_file_in_place_of_the_backbones_folder_is_one_sentence(policy_json, robot, tmp_path, folder):
    (tmp_path / "dinov3-vitb16").touch()
    policy_json.write_text(json.dumps(json.loads(policy_json.read_text()) | {"dino_model_dir": folder}))
    with pytest.raises(MaskACTError, match=rf"{folder}/config\.json: cannot be read \(Not a directory\)"):
        init_checkpoint(policy_json, tmp_path / "checkpoint", robot)


def test_a_key_given_twice_is_one_sentence(policy_json, robot, tmp_path):
    policy_json.write_text(policy_json.read_text()[:-1] + ', "dropout": 0.3}')
    with pytest.raises(MaskACTError, match=r"policy\.json: 'dropout' is given 2 times"):
        init_checkpoint(policy_json, tmp_path / "checkpoint", robot)


def test_a_truncated_checkpoint_is_one_sentence(checkpoint, tmp_path):
    weights = checkpoint.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MaskACTError, match=r"model.safetensors: truncated, it has 1000 bytes"):
        predict_once(checkpoint.folder, tmp_path / "any.png", [0, 0, 0], tmp_path / "out.npz")
