"""A policy's dimensions are held against its weights before anything of that size is built."""

import hashlib
import json
import shutil

import pytest
from support.tiny_policy import TINY

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.dimensions import DimensionError, check_backbone, check_dimensions
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(TINY / "checkpoint", tmp_path / "checkpoint")


def signed(folder, name, **changes):
    """The file with entries changed, and its hash in the manifest."""
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / name).read_bytes()
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("backbone.json", {"num_hidden_layers": 1_000_000}, "num_hidden_layers is 1000000; allowed: an integer >= 1"),
        ("backbone.json", {"num_hidden_layers": 150}, "its dimensions need at least"),
        ("backbone.json", {"hidden_size": 16_000}, "its dimensions need at least"),
        ("backbone.json", {"hidden_size": "64"}, "hidden_size is '64'; allowed: an integer"),
        ("backbone.json", {"num_register_tokens": 2**40}, "num_register_tokens is 1099511627776; allowed"),
        ("config.json", {"n_encoder_layers": 200, "n_decoder_layers": 200}, "its dimensions need at least"),
        ("config.json", {"dim_feedforward": 60_000}, "its dimensions need at least"),
        ("config.json", {"mask_head_channels": 16_000}, "its dimensions need at least"),
        (
            "config.json",
            {"image_size": 8192, "dim_model": 1024},
            "image_size is 8192 with a dim_model of 1024; allowed",
        ),
        (
            "config.json",
            {"chunk_size": 10_000, "dim_model": 16_384, "dim_feedforward": 4},
            "chunk_size is 10000 with a",
        ),
        (
            "config.json",
            {"use_lora": True, "lora_config": {"r": 16_000, "target_modules": ["q_proj", "v_proj"]}},
            "its dimensions need at least",
        ),
    ],
)
def test_a_checkpoint_that_claims_more_than_its_weights_is_refused(checkpoint, name, changes, words):
    CheckpointInfo.read(checkpoint)
    signed(checkpoint, name, **changes)
    with pytest.raises(MaskACTError) as caught:
        CheckpointInfo.read(checkpoint)
    assert words in str(caught.value)
    assert str(checkpoint) in str(caught.value)


def test_checkpoints_that_exist_are_within_their_dimensions():
    for folder in (TINY / "checkpoint", shared("models/demo")):
        info = CheckpointInfo.read(folder)
        check_dimensions(info.config, info.backbone, (folder / "model.safetensors").stat().st_size)


def test_the_largest_published_backbone_is_allowed():
    check_backbone({"hidden_size": 4096, "intermediate_size": 8192, "num_hidden_layers": 40, "num_attention_heads": 32})
    check_dimensions(MaskACTConfig(), SMALL, 2**30)


def test_no_weights_are_too_few_for_any_policy():
    with pytest.raises(DimensionError, match=r"need at least \d+ bytes of weights; there are 0"):
        check_dimensions(MaskACTConfig(), SMALL, 0)


def test_an_untrained_policy_that_would_fill_the_memory_is_not_begun(tmp_path):
    from maskact_ros.core.robot import RobotSpec
    from maskact_ros.policy.commands import init_checkpoint

    policy = json.loads((TINY / "policy.json").read_text()) | {"dim_model": 8192, "n_encoder_layers": 200}
    shutil.copytree(TINY / "backbone", tmp_path / "backbone")
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    with pytest.raises(DimensionError, match="its dimensions need at least"):
        init_checkpoint(tmp_path / "policy.json", tmp_path / "out", RobotSpec.from_yaml(shared("config/robot.yaml")))
    assert not (tmp_path / "out").exists()
