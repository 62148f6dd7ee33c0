"""The baseline computes our function, and the benchmark gives each part a row."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.baseline_model import Baseline
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.policy.commands import init_checkpoint
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime

TINY = {
    "chunk_size": 6,
    "n_action_steps": 3,
    "vision_backbone": "dinov3_vits16",
    "dino_model_dir": "backbone",
    "num_mask": 3,
    "image_size": 48,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 48,
    "n_encoder_layers": 2,
    "n_decoder_layers": 2,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
    "mask_head_channels": 16,
    "label_attention_rules": {"-1": [-1, 1, 2], "0": [0], "1": [-1, 1, 2]},
    "mask_importance_weights": [1.0, 1.1, 0.9],
}
BACKBONE = {
    "model_type": "dinov3_vit",
    "patch_size": 16,
    "image_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_register_tokens": 4,
}
TORCH = Engine(backend="torch", device="cpu")


@pytest.fixture
def make_tiny(tmp_path):
    """A function: the folder of a tiny policy, untrained."""

    def make(**changes):
        (tmp_path / "backbone").mkdir()
        (tmp_path / "backbone" / "config.json").write_text(json.dumps(BACKBONE))
        (tmp_path / "policy.json").write_text(json.dumps(TINY | changes))
        robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
        init_checkpoint(tmp_path / "policy.json", tmp_path / "checkpoint", robot, seed=1)
        return tmp_path / "checkpoint"

    return make


@pytest.mark.parametrize("changes", [{}, {"pre_norm": True, "feedforward_activation": "glu"}, {"use_lora": False}])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_baseline_computes_what_ours_computes(make_tiny, changes, attention):
    folder = make_tiny(**changes)
    info = CheckpointInfo.read(folder)
    baseline = Baseline.load(folder, attention=attention)
    encoder, planner = EncoderRuntime.load(info, engine=TORCH), PlannerRuntime.load(info, engine=TORCH)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (120, 160, 3), np.uint8)
    state = rng.uniform(-0.5, 0.5, len(info.robot.joints))

    ours = encoder.encode(info.geometry.to_model(rgb, info.config.image_size))
    features = baseline.encode(baseline.preprocess(rgb))
    np.testing.assert_allclose(features[0].numpy(), ours.features, rtol=2e-3, atol=2e-3)  # ours travel as float16
    labels = baseline.segment(features)
    np.testing.assert_array_equal(labels[0].numpy(), ours.patch_labels)

    chunk = planner.predict(ours.features, ours.patch_labels, state)
    np.testing.assert_allclose(baseline.step(rgb, state), chunk, rtol=0, atol=1e-3)
    mixed = np.arange(len(ours.patch_labels), dtype=np.int8) % info.config.num_mask  # rules act on these
    chunk = planner.predict(ours.features, mixed, state)
    np.testing.assert_allclose(
        baseline.act(features, torch.from_numpy(mixed.astype(np.int64))[None], state), chunk, rtol=0, atol=1e-3
    )
    free = replace(info.config, label_attention_rules=None)
    assert np.abs(planner.with_config(free).predict(ours.features, mixed, state) - chunk).max() > 2e-3


SMALL = ["--backbone", "tiny", "--image-size", "48", "--chunk", "6", "--dim-model", "32", "--device", "cpu"]
PARTS = ["encoder", "mask_head", "act", "model", "rest", "step"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """As a user runs it, on a policy small enough for a test."""
    out = tmp_path_factory.mktemp("model") / "model.json"
    plot = out.with_suffix(".png")
    options = ["--rounds", "3", "--precisions", "fp32,bf16", "--background", "0.2,0.8"]
    with pytest.raises(SystemExit) as ended:
        main(["model", *SMALL, *options, "--out", str(out), "--plot", str(plot)])
    assert ended.value.code == 0
    assert plot.stat().st_size > 10_000
    return json.loads(out.read_text(encoding="utf-8"))


def rows_of(result, **fields):
    return [row for row in result["rows"] if all(row[name] == value for name, value in fields.items())]


@pytest.mark.extended
def test_every_engine_has_a_row_for_each_part_or_a_reason(result):
    assert result["complete"]
    for backend, precision in (("baseline", "fp32"), ("torch", "fp32"), ("torch", "bf16"), ("onnxruntime", "fp32")):
        rows = rows_of(result, backend=backend, precision=precision, background=None)
        rows = [row for row in rows if row["part"] != "label_mask"]
        reasons = rows_of(result | {"rows": result["left_out"]}, backend=backend, precision=precision)
        assert [row["part"] for row in rows] == PARTS or reasons
    assert not [left for left in result["left_out"] if left["backend"] != "onnxruntime"]


@pytest.mark.extended
def test_the_parts_of_a_step_are_the_step(result):
    for step in rows_of(result, part="step"):
        of = {"backend": step["backend"], "precision": step["precision"], "background": None}
        shares = {row["part"]: row["share_of_step"] for row in rows_of(result, **of)}
        assert shares["step"] == 1
        assert shares["model"] + shares["rest"] == pytest.approx(1, abs=0.05)  # medians of three rounds
        assert all(0 <= share <= 1 for share in shares.values())


@pytest.mark.extended
def test_the_baseline_is_as_fast_as_itself_and_all_others_say_how_much_faster_they_are(result):
    assert {row["speedup_over_baseline"] for row in rows_of(result, backend="baseline")} == {1}
    assert all(row["speedup_over_baseline"] > 0 for row in result["rows"] if row["part"] != "label_mask")
    assert rows_of(result, backend="baseline_sdpa", part="encoder")


@pytest.mark.extended
def test_dropped_patches_have_a_row_for_each_share_and_leave_fewer_operations(result):
    for precision in ("fp32", "bf16"):
        of = {"backend": "torch", "precision": precision, "part": "act"}
        few, many = rows_of(result, **of, background=0.8)[0], rows_of(result, **of, background=0.2)[0]
        (none,) = rows_of(result, **of, background=None)
        assert few["gflop"] < many["gflop"] < none["gflop"]
        assert few["over_all_patches"] > 0


@pytest.mark.extended
def test_a_share_of_the_matrix_product_is_of_the_same_precision(result):
    assert set(result["hardware"]["gemm_gflops"]) >= {"fp32"}
    for row in result["rows"]:
        has_share = row["precision"] in result["hardware"]["gemm_gflops"] and row["part"] not in ("rest", "label_mask")
        assert (row["share_of_gemm"] is not None) == has_share


@pytest.mark.extended
def test_labels_are_compared_with_those_of_single_precision(result):
    (head,) = rows_of(result, backend="torch", precision="bf16", part="mask_head")
    assert 0.5 < head["label_agreement"] <= 1
    (reference,) = rows_of(result, backend="torch", precision="fp32", part="mask_head")
    assert reference["label_agreement"] is None


@pytest.mark.extended
def test_without_the_baseline_nothing_is_compared_with_it(tmp_path):
    out = tmp_path / "model.json"
    options = ["--rounds", "1", "--backends", "torch", "--precisions", "fp32", "--background", "", "--no-baseline"]
    with pytest.raises(SystemExit) as ended:
        main(["model", *SMALL, *options, "--out", str(out)])
    assert ended.value.code == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["part"] for row in rows] == [*PARTS, "label_mask"]
    assert {row["speedup_over_baseline"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--backbone", "resnet", "--backbone is resnet; allowed: vits16, vitb16, vitl16, tiny"),
        ("--image-size", "x", "--image-size is x; allowed: numbers from 16 to 4096"),
        ("--image-size", "100", "image_size is 100; allowed: a multiple of 16"),
        ("--dim-model", "20", "dim_model is 20; allowed: a multiple of n_heads"),
        ("--precisions", "fp8", "--precisions is fp8; allowed: fp32, bf16, fp16, int8"),
        ("--backends", "tflite", "--backends is tflite; allowed: torch, onnxruntime"),
        ("--background", "1.5", "--background is 1.5; allowed: numbers from 0 to 0.99"),
        ("--rounds", "0", "--rounds is 0; allowed: 1 to 100000"),
        ("--plot", "x.txt", "--plot is x.txt; allowed: a file ending in .png"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_before_anything_is_measured(flag, value, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["model", flag, value])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"benchmarks: {sentence}")


def test_engines_of_which_none_exists_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["model", "--backends", "torch", "--precisions", "int8"])
    assert ended.value.code == 1
    assert "precision is 'int8' with the backend torch" in capsys.readouterr().err
