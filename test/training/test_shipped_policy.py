"""The policy that ships: whole, small, of the simulated arm, and able; and the published figures are its own."""

import json
from pathlib import Path

import pytest

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.training.evaluation.report import SCENES, read_evaluation
from maskact_ros.training.evaluation.success_rate import Evaluation, Setup, run, simulated_robot

ROOT = Path(__file__).parents[2]
POLICIES = {"maskact": ROOT / "models" / "demo", "action_only": ROOT / "models" / "demo_action_only"}
RESULTS = ROOT / "docs" / "results"
MOST_BYTES = 10e6


@pytest.mark.parametrize("name", POLICIES)
def test_it_is_whole_and_small_and_of_the_simulated_arm(name):
    info = CheckpointInfo.read(POLICIES[name])
    info.verify()
    assert sum(file.stat().st_size for file in info.folder.iterdir()) < MOST_BYTES
    assert simulated_robot().differences(info.robot) == []
    assert info.config.use_mask == (name == "maskact")


def test_it_is_what_the_shipped_configuration_trains():
    for name, configuration in (("maskact", "demo_policy"), ("action_only", "demo_action_only")):
        wanted = json.loads((ROOT / "config" / f"{configuration}.json").read_text(encoding="utf-8"))
        shipped = json.loads((POLICIES[name] / "config.json").read_text(encoding="utf-8"))
        for entry in set(wanted) - {"type", "dino_model_dir"}:
            assert shipped[entry] == wanted[entry], entry


@pytest.mark.extended
def test_it_puts_the_cube_into_the_bin():
    setup = Setup.of_policy(CheckpointInfo.read(POLICIES["maskact"]), {})
    evaluation = Evaluation.of(setup, list(run(setup, range(6))))
    assert evaluation.successes >= 4
    assert evaluation.mask_iou is not None
    assert evaluation.mask_iou["robot"] > 0.7


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", POLICIES)
def test_the_published_figures_are_of_these_weights(name, scene):
    published = read_evaluation(RESULTS / f"{name}-{scene}.json")
    assert published.weights_hash == CheckpointInfo.read(POLICIES[name]).weights_hash
    assert (published.episodes, published.shift) == (100, scene)
