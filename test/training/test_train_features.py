"""A frozen backbone's features are computed once, and a run with them is the run without them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import small_run
from support.small_run import LENGTHS, assert_same_state, settings_of, write_dataset

from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run import features, train
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.features import FeatureFile
from maskact_ros.training.run.frames import open_frames
from maskact_ros.training.run.run_log import RunLog
from maskact_ros.training.run.start import initial_model, open_datasets

ROOT = Path(__file__).parents[2]
ROWS = sum(LENGTHS)
FROZEN = {"freeze_backbone": True}
ACTING = {"use_lora": True, "stage2_dino_lr_ratio": 0.0}  # nothing of the encoder learns, nor do its adapters


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(RunLog, "draw", lambda _: None)
    monkeypatch.setattr(train, "take_step", train.take_step)
    monkeypatch.setattr(train, "_LOG_EVERY", 1)


def settings_with(folder, dataset, out, policy=FROZEN, **changes):
    return settings_of(folder, dataset, out, policy=policy, **{"augment": PRESETS["none"]} | changes)


def losses_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["total"] for line in lines if line["about"] in ("training", "held-out")]


def feature_file(settings):
    """Of a run that has not begun."""
    model, _ = initial_model(settings, datasets := open_datasets(settings))
    config, geometry = model.spec.config, model.spec.geometry
    frames = open_frames(datasets[0], settings.cache, geometry, config.image_size)
    return FeatureFile.of(model, frames, settings.cache)


@pytest.mark.parametrize("policy", [FROZEN, ACTING], ids=["frozen", "acting"])
def test_cached_features_give_the_losses_of_computed_ones(tmp_path, dataset, policy):
    runs = {
        when: settings_with(tmp_path, dataset, when, policy, cache=tmp_path / when, cache_features=when)
        for when in ("never", "auto")
    }
    for settings in runs.values():
        assert train.train(settings) == 0
    assert not list(runs["never"].cache.glob("features-*"))
    assert len(list(runs["auto"].cache.glob("features-*"))) == 1
    computed, cached = (losses_of(settings.out) for settings in runs.values())
    assert computed != cached  # half precision
    np.testing.assert_allclose(cached, computed, rtol=5e-3)


@pytest.mark.extended
def test_a_run_with_cached_features_goes_on_bit_for_bit(tmp_path, dataset):
    whole = settings_with(tmp_path, dataset, "whole", cache=tmp_path / "one", ema=0.9)
    train.train(whole)
    killed = settings_with(tmp_path, dataset, "killed", cache=tmp_path / "two", ema=0.9)
    command = [sys.executable, small_run.__file__, "in a step", json.dumps(killed.to_dict())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert train.resumed(killed.out).cache_features == "always"
    assert train.train(train.resumed(killed.out), resume=True) == 0
    assert_same_state(whole.out, killed.out)


def test_features_of_other_weights_are_never_used(tmp_path, dataset):
    one, other = (feature_file(settings_with(tmp_path, dataset, "x", cache=tmp_path, seed=seed)) for seed in (1, 2))
    tokens = one.open()
    assert one.path != other.path
    assert not other.path.exists()
    again = feature_file(settings_with(tmp_path, dataset, "x", cache=tmp_path, seed=1))
    assert again.missing_bytes == 0
    assert np.array_equal(again.open(), tokens)
    assert not np.array_equal(other.open(), tokens)


def test_other_image_statistics_are_other_features(tmp_path, dataset):
    file = feature_file(settings_with(tmp_path, dataset, "x", cache=tmp_path))
    file.model.perception.preprocessor.normalizer.centre.add_(0.1)
    assert FeatureFile.of(file.model, file.frames, tmp_path).path != file.path


@pytest.mark.parametrize("left", ["whole rows", "a torn row", "zeros after a power cut"])
def test_interrupted_caching_goes_on(tmp_path, dataset, monkeypatch, left):
    monkeypatch.setattr(features, "_BLOCK", 4)
    monkeypatch.setattr(features, "_COMPARED", 0)  # here it is counted what is computed for the file
    usual, computed = FeatureFile._tokens, []

    def interrupted(self, rgb):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(rgb))
        return usual(self, rgb)

    file = feature_file(settings_with(tmp_path, dataset, "x", cache=tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(FeatureFile, "_tokens", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.open()
    assert not file.path.exists()
    (partial,) = tmp_path.glob(".features-*.partial")
    with partial.open("ab") as torn:
        torn.write({"whole rows": b"", "a torn row": b"\x01" * 5}.get(left, bytes(3 * file._row_bytes)))
    monkeypatch.setattr(FeatureFile, "_tokens", lambda self, rgb: computed.append(len(rgb)) or usual(self, rgb))
    tokens = file.open()
    assert sum(computed) == ROWS
    whole = usual(file, file.frames.rgb)
    np.testing.assert_allclose(tokens.astype(np.float32), whole.astype(np.float32), atol=1e-2)
    assert not partial.exists()


@pytest.mark.parametrize(
    ("policy", "changes", "said"),
    [
        ({"use_lora": True, "freeze_backbone": True}, {}, "LoRA adapters are trained"),
        ({}, {}, "the backbone is trained"),
        (FROZEN, {"augment": PRESETS["colour"]}, "the pictures are augmented"),
    ],
)
def test_what_changes_from_step_to_step_is_not_cached(tmp_path, dataset, capsys, policy, changes, said):
    settings = settings_with(tmp_path, dataset, "run", policy, cache=tmp_path, steps=1, **changes)
    settings = replace(settings, batch_size=ROWS)
    assert train.train(settings) == 0
    assert f"features: computed in each step, as {said}" in capsys.readouterr().out
    assert not list(tmp_path.glob("*features*"))
    with pytest.raises(TrainingError, match=f"--cache-features is always, but {said}"):
        train.train(replace(settings, cache_features="always", out=tmp_path / "other"))


def test_a_short_run_and_a_full_disk_do_without(tmp_path, dataset, capsys, monkeypatch):
    settings = settings_with(tmp_path, dataset, "short", steps=1, cache=tmp_path)
    train.train(settings)
    assert f"fewer pictures than the datasets' {ROWS}" in capsys.readouterr().out
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    train.train(replace(settings, out=tmp_path / "full", steps=10))
    assert "they need 0.0 GiB" in capsys.readouterr().out
    assert not list(tmp_path.glob("*features*"))


def test_features_beyond_half_precision_are_one_sentence(tmp_path, dataset, monkeypatch):
    file = feature_file(settings_with(tmp_path, dataset, "x", cache=tmp_path))
    with torch.no_grad():
        file.model.perception.encoder.backbone.norm.weight.fill_(1e6)
    with pytest.raises(TrainingError, match=r"half precision cannot hold .* --cache-features never"):
        file.open()


def test_mixed_precision_learns_what_single_precision_learns(tmp_path, dataset):
    policy = FROZEN | {"optimizer_lr": 0.01, "dropout": 0.0, "use_vae": False}
    losses = {}
    for precision in ("fp32", "bf16"):
        settings = settings_with(tmp_path, dataset, precision, policy, steps=30, eval_every=30, precision=precision)
        train.train(settings)
        losses[precision] = losses_of(settings.out)
    assert losses["bf16"] != losses["fp32"]
    for values in losses.values():
        assert np.mean(values[-6:-1]) < 0.7 * np.mean(values[:3])  # the last one is of what is held out
    assert losses["bf16"][-1] == pytest.approx(losses["fp32"][-1], rel=0.1)
