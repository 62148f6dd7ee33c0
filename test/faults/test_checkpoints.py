"""A damaged checkpoint: truncated, flipped, a pickle in its place, of other widths. Never executed, always refused."""

import contextlib
import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError

pytestmark = pytest.mark.extended

FLIPS_A_PHASE = 50  # 1000 in the 20 phases of the whole
FILES = ("manifest.json", "config.json", "backbone.json", "stats.json", "model.safetensors")


class Bomb:
    """A pickle of it creates a file when it is loaded."""

    def __init__(self, trace):
        self._trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self._trace,)


@pytest.fixture
def copied(policy, tmp_path):
    """A copy of the tiny policy, to be damaged."""
    return shutil.copytree(policy, tmp_path / "checkpoint")


def load(folder) -> None:
    """What the nodes do with a checkpoint in configure."""
    from maskact_ros.policy.engine import Engine
    from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime  # loads torch

    info = CheckpointInfo.read(folder)
    EncoderRuntime.load(info, engine=Engine(device="cpu"))
    PlannerRuntime.load(info, engine=Engine(device="cpu"))


def assert_refused(folder) -> str:
    with pytest.raises(MaskACTError) as refusal:
        load(folder)
    sentence = str(refusal.value)
    assert sentence
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def flip(path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def vouch_for(folder) -> None:
    """Make the manifest fit the files, as somebody would who wants them to be believed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("vouched", [False, True], ids=["as it is", "with a manifest that fits"])
@pytest.mark.parametrize("name", FILES)
def test_truncated_at_every_decile_it_is_refused(copied, name, vouched):
    content = (copied / name).read_bytes()
    for tenths in range(10):
        (copied / name).write_bytes(content[: len(content) * tenths // 10])
        if vouched and name != "manifest.json":
            vouch_for(copied)
        assert_refused(copied)


def test_with_any_bit_flipped_it_is_refused(copied, phase):
    sizes = np.array([(copied / name).stat().st_size for name in FILES], float)
    for _ in range(FLIPS_A_PHASE):
        # Half of the flips are anywhere, by size; the small files, which decide more, have the other half.
        share = sizes / sizes.sum() if phase.random.random() < 0.5 else None
        path = copied / phase.random.choice(FILES, p=share)
        bit = int(phase.random.integers(8 * path.stat().st_size))
        flip(path, bit)
        with pytest.raises(MaskACTError) as refusal:
            CheckpointInfo.read(copied).verify()
        assert "\n" not in str(refusal.value), (path, bit)
        flip(path, bit)
    CheckpointInfo.read(copied).verify()


def test_with_any_bit_of_the_weights_flipped_and_vouched_for_it_is_loaded_or_refused_but_breaks_nothing(copied, phase):
    path = copied / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(4):
        path.write_bytes(whole)
        flip(path, int(phase.random.integers(8 * (header if phase.random.random() < 0.7 else len(whole)))))
        vouch_for(copied)
        with contextlib.suppress(MaskACTError):  # anything else that is raised is a failure
            load(copied)


@pytest.mark.parametrize("vouched", [False, True], ids=["as it is", "with a manifest that fits"])
@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_its_place_is_refused_and_never_executed(copied, tmp_path, name, vouched):
    trace = tmp_path / "executed"
    (copied / name).write_bytes(pickle.dumps(Bomb(trace)))
    if vouched and name != "manifest.json":
        vouch_for(copied)
    assert_refused(copied)
    assert not trace.exists()


def test_a_torch_file_beside_the_weights_is_not_looked_at(copied, tmp_path):
    trace = tmp_path / "executed"
    for name in ("model.pt", "pytorch_model.bin", "model.safetensors.pkl", "config.pkl"):
        (copied / name).write_bytes(pickle.dumps(Bomb(trace)))
    load(copied)
    assert not trace.exists()


def test_tensors_of_another_width_are_refused_by_name_and_both_shapes(copied, phase):
    path = copied / "model.safetensors"
    tensors = load_file(path)
    name = phase.pick(sorted(name for name, tensor in tensors.items() if tensor.ndim and "vae" not in name))
    shape = list(tensors[name].shape)
    axis = int(phase.random.integers(len(shape)))
    wider = np.concatenate([tensors[name], np.take(tensors[name], [0], axis)], axis)
    save_file(tensors | {name: wider}, path)
    vouch_for(copied)
    sentence = assert_refused(copied)
    assert all(text in sentence for text in (name.partition(".")[2], str(list(wider.shape)), str(shape))), sentence


@pytest.mark.parametrize("width", ["dim_model", "dim_feedforward", "n_encoder_layers", "chunk_size", "latent_dim"])
def test_a_configuration_of_other_widths_than_the_weights_is_refused(copied, width):
    config = json.loads((copied / "config.json").read_text())
    config[width] *= 2
    (copied / "config.json").write_text(json.dumps(config))
    vouch_for(copied)
    assert str(copied) in assert_refused(copied)
