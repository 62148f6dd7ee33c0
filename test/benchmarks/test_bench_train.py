"""The baseline learns from the losses that ours learns from, and the benchmark has a row for each way to train."""

import json
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import baseline_training, train_run
from benchmarks.__main__ import main
from benchmarks.train import table
from benchmarks.train_rows import TrainArguments

TINY = {
    "chunk_size": 6,
    "n_action_steps": 3,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 48,
    "n_encoder_layers": 2,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
    "mask_head_channels": 16,
    "backbone": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
ARGUMENTS = TrainArguments(
    stage="stage2", backbone="dinov3_vits16", image_size=48, batch_size=4, steps=2, device="cpu", baseline=True
)


@pytest.fixture(scope="module")
def result():
    return train_run.measure(ARGUMENTS, TINY)


@pytest.fixture
def make_bench(tmp_path):
    """A function: the benchmark's jobs, not run."""

    def make(**changes):
        return train_run._Bench(replace(ARGUMENTS, **changes), tmp_path, TINY, [], ExitStack())

    return make


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("lora", [False, True], ids=["frozen", "lora"])
@pytest.mark.extended
def test_the_baseline_computes_the_losses_and_the_gradients_of_ours(make_bench, stage, lora):
    bench = make_bench(stage=stage)
    run = bench._prepared("x", {"use_lora": lora, "freeze_backbone": True})
    model = run.learner.model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    train_run.save_checkpoint(bench._folder / "checkpoint", model)
    trainer = baseline_training.Trainer.load(bench._folder / "checkpoint", bench._samples, batch_size=4)
    rows = np.array([0, 3, 9, 17])
    ours = model.eval()  # without dropout, and with a latent of zeros
    losses = ours.losses(ours.encode_batch(batch := run.batches.plain(rows)), batch)
    trainer.train(False)
    samples = baseline_training.collate([trainer.loader.dataset[row] for row in rows])
    theirs = trainer.losses(samples)
    for name, value in losses.named().items():
        assert theirs[name].item() == pytest.approx(value, rel=1e-3), name
    losses.total.backward()
    theirs["total"].backward()
    trained = {name: p.grad for name, p in model.perception.named_parameters() if p.grad is not None}
    plain = {name: p.grad for name, p in trainer.perception.named_parameters() if p.grad is not None}
    assert trained.keys() == plain.keys()
    assert any("lora_" in name for name in trained) == lora
    for name, gradient in trained.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(plain[name], gradient, rtol=2e-2, atol=2e-3 * scale + 1e-7)


@pytest.mark.extended
def test_the_baseline_learns(make_bench):
    bench = make_bench()
    run = bench._prepared("x", {"use_lora": True, "freeze_backbone": True, "optimizer_lr": 0.003})
    train_run.save_checkpoint(bench._folder / "checkpoint", run.learner.model)
    trainer = baseline_training.Trainer.load(bench._folder / "checkpoint", bench._samples, batch_size=4)
    losses = [trainer.step() for _ in range(24)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.extended
def test_each_way_to_train_has_a_row_in_each_precision(result):
    assert result.complete
    found = {(row.variant, row.backend, row.precision) for row in result.rows}
    ours = {
        (variant, "torch", precision)
        for variant in ("frozen", "frozen_cached", "lora")
        for precision in result.hardware.gemm_gflops
    }
    assert found == ours | {(variant, "baseline", "fp32") for variant in ("frozen", "lora")}
    assert all(row.part == "train" and row.median_ms > 0 for row in result.rows)
    assert len(table(result).splitlines()) == 5 + len(result.rows) + len(result.left_out)


@pytest.mark.extended
def test_a_step_with_cached_features_takes_fewer_operations_and_one_with_lora_more(result):
    gflop = {row.variant: row.gflop for row in result.rows}
    assert gflop["frozen_cached"] < gflop["frozen"] < gflop["lora"]


@pytest.mark.extended
def test_the_baseline_is_as_fast_as_itself(result):
    assert {row.speedup_over_baseline for row in result.rows if row.backend == "baseline"} == {1}
    assert all(row.speedup_over_baseline > 0 and row.share_of_gemm > 0 for row in result.rows)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--image-size", "50"], "image_size is 50; allowed"),
        (["--backbone", "resnet"], 'vision_backbone is "resnet"; allowed'),
        (["--steps", "0"], "--steps is 0; allowed: 1 to"),
        (["--out", "/nowhere/x.json"], "--out is /nowhere/x.json; allowed"),
        (["--out", "/"], "--out is /; allowed: a file in a folder that exists and can be written"),
    ],
)
def test_mistakes_are_one_sentence(capsys, option, said):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--device", "cpu", *option])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.extended
def test_json_is_all_that_is_printed(capsys, monkeypatch, result):
    monkeypatch.setattr(train_run, "measure", lambda _: result)
    with pytest.raises(SystemExit):
        main(["train", "--json", "--device", "cpu"])
    printed = json.loads(capsys.readouterr().out)
    assert {"machine", "hardware", "rows"} <= printed.keys()
