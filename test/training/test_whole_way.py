"""From a demonstration to a measured policy, through the commands that a user types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maskact_ros.checkpoint import CheckpointInfo

CONFIG = Path(__file__).parents[2] / "config"
POLICY = ["--config", str(CONFIG / "demo_policy.json"), "--augment", str(CONFIG / "demo_augmentation.yaml")]
SHORT = ["--steps", "2", "--batch-size", "4", "--val-episodes", "0", "--ema", "0.9"]


def maskact(folder: Path, *arguments: str) -> str:
    """What the command prints on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "maskact_ros.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments[0]}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.timeout(400)
def test_a_demonstration_becomes_a_policy_that_is_measured(tmp_path):
    maskact(tmp_path, "record-demos", "--episodes", "1", "--out", "demos")
    maskact(tmp_path, "convert", "demos", "--contract", str(CONFIG / "contract.yaml"), "--out", "dataset")
    assert "sound" in maskact(tmp_path, "validate", "dataset")

    data = ["train", "--dataset", "dataset"]
    maskact(tmp_path, *data, "--stage", "stage1", *POLICY, *SHORT, "--out", "stage1")
    begin = ["--init", "stage1/checkpoint"]
    maskact(tmp_path, *data, "--stage", "stage2", *POLICY, *SHORT, *begin, "--out", "stage2")
    maskact(tmp_path, "shrink", "stage2/checkpoint", "policy")
    assert CheckpointInfo.read(tmp_path / "policy").config.training_stage == "stage2"

    evaluate = ["evaluate", "policy", "--episodes", "1", "--time-limit", "1", "--shift", "background", "--json"]
    measured = json.loads(maskact(tmp_path, *evaluate))
    assert (measured["episodes"], measured["seeds"], measured["shift"]) == (1, [0], "background")
    assert measured["successes"] in (0, 1)
    assert set(measured["mask_iou"]) == {"background", "robot", "cube", "bin", "mean"}
