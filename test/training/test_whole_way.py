"""From a demonstration to a measured policy, through the commands that a user types."""

import json
from pathlib import Path

import pytest

from maskact_ros.cli import main
from maskact_ros.core.checkpoint import CheckpointInfo

pytestmark = pytest.mark.extended

CONFIG = Path(__file__).parents[2] / "config"
POLICY = ["--config", str(CONFIG / "demo_policy.json"), "--augment", str(CONFIG / "demo_augmentation.yaml")]
SHORT = ["--steps", "2", "--batch-size", "4", "--val-episodes", "0", "--ema", "0.9"]


@pytest.fixture
def maskact(tmp_path, monkeypatch, capsys):
    """A function: run a command in the test's folder; what it prints on stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        assert ended.value.code == 0, f"{arguments[0]}: {out}{err}"
        return out

    return run


@pytest.mark.timeout(400)
def test_a_demonstration_becomes_a_policy_that_is_measured(maskact, tmp_path):
    maskact("record-demos", "--episodes", "1", "--out", "demos")
    maskact("convert", "demos", "--contract", str(CONFIG / "contract.yaml"), "--out", "dataset")
    assert "sound" in maskact("validate", "dataset")

    data = ["train", "--dataset", "dataset"]
    maskact(*data, "--stage", "stage1", *POLICY, *SHORT, "--out", "stage1")
    begin = ["--init", "stage1/checkpoint"]
    maskact(*data, "--stage", "stage2", *POLICY, *SHORT, *begin, "--out", "stage2")
    maskact("shrink", "stage2/checkpoint", "policy")
    assert CheckpointInfo.read(tmp_path / "policy").config.training_stage == "stage2"

    evaluate = ["evaluate", "policy", "--episodes", "1", "--time-limit", "1", "--shift", "background", "--json"]
    measured = json.loads(maskact(*evaluate))
    assert (measured["episodes"], measured["seeds"], measured["shift"]) == (1, [0], "background")
    assert measured["successes"] in (0, 1)
    assert set(measured["mask_iou"]) == {"background", "robot", "cube", "bin", "mean"}
