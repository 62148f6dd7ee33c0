"""Success is counted seed by seed, the same however the episodes are shared, and its interval is Wilson's."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence  # matplotlib needs it, too

from maskact_ros.cli import main
from maskact_ros.core.checkpoint import CheckpointInfo, PolicySpec
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.documents import read_json
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.onnx.export import export
from maskact_ros.sim.scene import CLASS_NAMES
from maskact_ros.training.evaluation.policy_planner import mask_iou
from maskact_ros.training.evaluation.proportions import mcnemar_p, wilson
from maskact_ros.training.evaluation.success_rate import Evaluation, EvaluationError, Setup, run, simulated_robot
from maskact_ros.training.iou import confusion

BACKBONE = Path(__file__).parents[2] / "config" / "demo_backbone" / "config.json"


def save_tiny_policy(folder, **changes) -> CheckpointInfo:
    values = {
        "chunk_size": 20,
        "n_action_steps": 10,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 24,
        "n_encoder_layers": 1,
        "use_vae": False,
        "image_size": 48,
        "use_lora": False,
        "freeze_backbone": False,
    }
    small = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24}
    robot = simulated_robot()
    spec = PolicySpec(
        config=MaskACTConfig.from_dict(values | changes),
        robot=robot,
        statistics=Statistics.from_limits(robot),
        backbone=read_json(BACKBONE) | small,
        mask_classes=CLASS_NAMES,
    )
    torch.manual_seed(0)
    return save_checkpoint(folder, MaskACT(spec))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_tiny_policy(tmp_path_factory.mktemp("evaluate") / "policy")


def printed(capsys, *words) -> dict:
    """What `maskact evaluate --json` prints."""
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, words), "--json"])
    assert end.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_what_the_expert_solves_is_counted():
    setup = Setup.of_expert()
    evaluation = Evaluation.of(setup, list(run(setup, (2, 0))))
    assert evaluation.seeds == evaluation.solved == (0, 2)
    assert evaluation.success_rate == 1.0
    assert 4.0 < evaluation.median_seconds < 9.0


def test_an_untrained_policy_solves_nothing_and_says_so_in_json(capsys, policy):
    values = printed(capsys, policy.folder, "--episodes", 2, "--seed", 5, "--time-limit", 1.5, "--shift", "light")
    assert (values["episodes"], values["successes"], values["success_rate"]) == (2, 0, 0.0)
    assert values["ci95"] == pytest.approx([0.0, 0.6576], abs=1e-4)
    assert (values["shift"], values["seeds"], values["solved"]) == ("light", [5, 6], [])
    assert set(values["mask_iou"]) <= {*CLASS_NAMES, "mean"}
    assert values["weights_hash"] == policy.weights_hash


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.extended
def test_an_export_is_measured_as_torch_is(capsys, tmp_path, precision):
    policy = save_tiny_policy(tmp_path / "policy")
    export(policy.folder, precision=precision)
    capsys.readouterr()
    words = (policy.folder, "--episodes", 2, "--time-limit", 1.0)
    measured = printed(capsys, *words, "--backend", "onnxruntime", "--precision", precision, "--jobs", 2)
    assert (measured["backend"], measured["precision"], measured["episodes"]) == ("onnxruntime", precision, 2)
    by_torch = printed(capsys, *words)
    assert (by_torch["backend"], by_torch["precision"]) == ("torch", "fp32")
    assert measured["mask_iou"]["mean"] == pytest.approx(by_torch["mask_iou"]["mean"], abs=0.05)


@pytest.mark.extended
def test_results_do_not_depend_on_the_number_of_processes(capsys, policy):
    words = (policy.folder, "--episodes", 3, "--time-limit", 1.0, "--ensemble", 0.1)
    assert printed(capsys, *words, "--jobs", 1) == printed(capsys, *words, "--jobs", 2)


def test_ctrl_c_prints_what_is_done_so_far(capsys, monkeypatch):
    def interrupted(setup, seeds, **rest):
        yield from run(setup, seeds[:1], **rest)
        raise KeyboardInterrupt

    monkeypatch.setattr("maskact_ros.training.evaluation.measured.run", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--expert", "--episodes", "3", "--time-limit", "0.1", "--json"])
    assert end.value.code == 130
    assert json.loads(capsys.readouterr().out)["seeds"] == [0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--backend", "tensorrt"], "the backend is 'tensorrt'; allowed: torch, onnxruntime"),
        (["--precision", "int8"], "precision is 'int8' with the backend torch; allowed: fp32, bf16"),
        (["--backend", "onnxruntime"], "there is no such export of the checkpoint; make it with: maskact export"),
        (["--shift", "fog"], "shift is 'fog'; allowed: none, background"),
        (["--ensemble", "off"], "--ensemble is 'off'; allowed: none, or a number"),
        (["--n-action-steps", "21"], "n_action_steps"),
        (["--episodes", "0"], "--episodes is 0; allowed: an integer >= 1"),
        (["--jobs", "0"], "--jobs is 0; allowed: 1 to 1024"),
        (["--cluster", "host:8786"], "--cluster is 'host:8786'; allowed: tcp://HOST:PORT"),
        (["--latency", "-1"], "the latency is -1 s; allowed: a number >= 0"),
        (["--film", "here.gif"], "here.gif; allowed: a file that ends in .mp4 or .webp"),
        (["--expert"], "give either the folder of a CHECKPOINT, or --expert"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_said_in_one_sentence(capsys, policy, words, sentence):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(policy.folder), *words])
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_checkpoint_of_stage_1_is_refused(tmp_path):
    info = save_tiny_policy(tmp_path / "masks_only", training_stage="stage1")
    with pytest.raises(EvaluationError, match="of training stage 1"):
        Setup.of_policy(info, {})


def test_a_policy_without_masks_has_no_iou(tmp_path):
    info = save_tiny_policy(tmp_path / "action_only", use_mask=False)
    setup = Setup.of_policy(info, {}, time_limit_s=0.5)
    evaluation = Evaluation.of(setup, list(run(setup, [0])))
    assert evaluation.mask_iou is None


def test_an_episode_that_fails_counts_no_more_for_the_masks_than_one_that_is_solved(policy):
    (short,), (long,) = (run(Setup.of_policy(policy, {}, time_limit_s=limit), [3]) for limit in (6.0, 8.0))
    assert not long.success
    pictures = short.confusion.sum() / 48**2
    assert 4 <= pictures <= 6
    np.testing.assert_array_equal(short.confusion, long.confusion)


def test_a_watcher_sees_every_picture_and_changes_nothing(policy):
    setup = Setup.of_policy(policy, {}, time_limit_s=1.0)
    seen = []
    (watched,) = run(setup, [3], watcher=lambda stamp_ns, rgb, labels: seen.append((stamp_ns, rgb, labels)))
    (unwatched,) = run(setup, [3])
    assert len(seen) == 30
    assert seen[0][1].shape == (480, 640, 3)
    assert seen[0][2].shape == (480, 640)
    assert watched.success == unwatched.success
    np.testing.assert_array_equal(watched.confusion, unwatched.confusion)


def test_the_first_episodes_are_filmed(capsys, policy, tmp_path):
    path = tmp_path / "film.mp4"
    filmed = printed(capsys, policy.folder, "--episodes", 4, "--time-limit", 0.5, "--film", path)
    with av.open(str(path)) as video:
        assert video.streams.video[0].frames == 3 * 15
    assert filmed == printed(capsys, policy.folder, "--episodes", 4, "--time-limit", 0.5)


def test_a_film_for_a_page_is_a_small_animation_that_repeats_in_real_time(capsys, policy, tmp_path):
    path = tmp_path / "film.webp"
    printed(capsys, policy.folder, "--episodes", 1, "--time-limit", 0.5, "--film", path)
    with Image.open(path) as animation:
        durations_ms = [frame.copy().info["duration"] for frame in ImageSequence.Iterator(animation)]
        assert animation.size == (480, 360)
        assert animation.info["loop"] == 0
    assert durations_ms == [100] * 5  # of 15 pictures at 30 Hz


def test_mask_iou_is_intersection_over_union_of_each_class():
    truth = np.array([[0, 0, 1], [1, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    counts = confusion(truth, predicted, 4)
    assert mask_iou(counts, ("a", "b", "c", "d")) == {
        "a": 0.3333,  # 1 of 3
        "b": 0.5,  # 2 of 4
        "c": 1.0,
        "mean": 0.6111,  # of those that were there
    }


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (50, 100, (0.4038, 0.5962)),
        (95, 100, (0.8882, 0.9785)),
    ],
)
def test_wilson_interval_has_its_known_values(successes, trials, interval):
    assert wilson(successes, trials) == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (8, 2, 0.109375), (2, 8, 0.109375)]
)
def test_mcnemar_p_is_the_binomial_tail_twice(only_first, only_second, p):
    assert mcnemar_p(only_first, only_second) == pytest.approx(p)
