"""`maskact evaluate --through-ros` gives the same JSON as in one process, from the real nodes."""

import json
import sys

import pytest

pytestmark = pytest.mark.extended

MASKACT = (sys.executable, "-m", "maskact_ros.cli")


@pytest.fixture
def four_classes(policy, tmp_path, robot):
    """The tiny policy, with the simulation's classes, so that its masks can be compared with the true ones."""
    from maskact_ros.policy.commands import init_checkpoint

    source = policy.parent
    values = json.loads((source / "policy.json").read_text())
    values |= {"num_mask": 4, "mask_classes": ["background", "robot", "cube", "bin"]}
    (tmp_path / "policy.json").write_text(json.dumps(values | {"dino_model_dir": str(source / "backbone")}))
    init_checkpoint(tmp_path / "policy.json", tmp_path / "checkpoint", robot)
    return tmp_path / "checkpoint"


def test_episodes_through_the_nodes_are_counted_with_their_seeds_and_masks(bench, four_classes):
    words = [
        "--episodes",
        "2",
        "--seed",
        "7",
        "--time-limit",
        "1.5",
        "--n-action-steps",
        "5",
        "--through-ros",
        "--json",
    ]
    run = bench.run([*MASKACT, "evaluate", str(four_classes), *words])
    assert run.wait(within_s=110.0) == 0, run.output
    values = json.loads(run.output.splitlines()[-1])
    assert (values["episodes"], values["successes"], values["seeds"]) == (2, 0, [7, 8])
    assert (values["through_ros"], values["latency_s"], values["n_action_steps"]) == (True, None, 5)
    assert 0.0 <= values["mask_iou"]["mean"] <= 1.0
    assert "Traceback" not in run.output
