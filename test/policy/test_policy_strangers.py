"""A stranger's checkpoint makes nothing run, and what the commands write costs nobody a file."""

import hashlib
import json
import os
import socket
import sys
import types
from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.reference_checkpoint import BACKBONE

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import OutputError
from maskact_ros.policy.commands import init_checkpoint, predict_once, shrink
from maskact_ros.policy.model.backbone import build_backbone
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_checkpoint, save_checkpoint
from maskact_ros.policy.onnx.engine_cache import checked_engines, engine_folder

CODE = "kernels-community/flash-attn3"
ASKING = [
    {"_attn_implementation": CODE},
    {"attn_implementation": CODE},
    {"_attn_implementation_internal": CODE},
    {"attn_implementation": {"": CODE}},
    {"auto_map": {"AutoModel": "evil/model--modeling.Evil"}, "trust_remote_code": True},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    {"dtype": "os", "torch_dtype": "system", "experts_implementation": CODE, "use_kernels": True},
]


@pytest.fixture
def kernels(monkeypatch):
    """The library that fetches native code, as if it were installed; it notes what is asked of it."""
    build_backbone(BACKBONE)  # what transformers looks for as it is imported is not asked for by a configuration
    asked = []

    def give(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **_: asked.append((name, arguments))

    module = types.ModuleType("kernels")
    module.__getattr__ = give
    monkeypatch.setitem(sys.modules, "kernels", module)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(("connect", address)))
    return asked


@pytest.mark.parametrize("asking", ASKING, ids=lambda asking: next(iter(asking)))
def test_no_entry_of_a_backbones_configuration_asks_for_code(asking, kernels):
    usual = build_backbone(BACKBONE)
    model = build_backbone(BACKBONE | asking)
    assert model.config._attn_implementation == "sdpa"
    assert not set(asking) & {"auto_map", "quantization_config"} & set(model.config.to_dict())
    assert CODE not in json.dumps(model.config.to_dict(), default=str)
    assert [(n, p.shape, p.dtype) for n, p in model.named_parameters()] == [
        (n, p.shape, p.dtype) for n, p in usual.named_parameters()
    ]
    assert not kernels


def test_a_checkpoint_that_asks_for_code_is_the_policy_that_it_is_without(make_spec, tmp_path, kernels):
    spec = make_spec()
    asking = replace(spec, backbone=dict(spec.backbone) | {"_attn_implementation": CODE})
    info = save_checkpoint(tmp_path / "policy", MaskACT(asking))
    model = load_checkpoint(CheckpointInfo.read(info.folder))
    assert model.perception.encoder.backbone.config._attn_implementation == "sdpa"
    assert not kernels


@pytest.mark.parametrize(
    ("entry", "value", "allowed"),
    [
        ("hidden_act", "os.system", "gelu, gelu_new"),
        ("rope_theta", "__import__('os')", "a finite number"),
        ("layer_norm_eps", None, "a finite number"),
        ("key_bias", "yes", "true or false"),
        ("num_hidden_layers", 1.5, "an integer"),
        ("image_size", [16, 16, 16], "an integer, or two"),
        ("pos_embed_jitter", True, "a finite number or null"),
        ("drop_path_rate", float("nan"), "a number up to"),
    ],
)
def test_an_entry_of_the_network_has_its_own_type(entry, value, allowed):
    with pytest.raises(MaskACTError, match=f"backbone: {entry} is .*; allowed: {allowed}"):
        build_backbone(BACKBONE | {entry: value})


def test_a_configuration_as_transformers_writes_it_is_taken_whole(tmp_path):
    from transformers import DINOv3ViTConfig

    whole = DINOv3ViTConfig(**{k: v for k, v in BACKBONE.items() if k != "model_type"})
    whole.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    ours, said = build_backbone(written).config.to_dict(), {"architectures", "dtype", "transformers_version"}
    assert {k: ours[k] for k in BACKBONE if k not in said} == {k: v for k, v in BACKBONE.items() if k not in said}


# TensorRT's engines


@pytest.fixture
def engines(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    folder = engine_folder(b"a graph", "fp16")
    with checked_engines(folder):
        (folder / "planner_sm90.engine").write_bytes(b"native code")
        (folder / "planner_sm90.profile").write_bytes(b"shapes")
    return folder


def names(folder):
    return sorted(os.listdir(folder))


WHOLE = ["lock", "manifest.json", "planner_sm90.engine", "planner_sm90.profile"]


def test_an_engine_that_this_machine_built_is_there_again(engines, capsys):
    with checked_engines(engines):
        assert names(engines) == WHOLE
    assert capsys.readouterr().err == ""
    assert engine_folder(b"another graph", "fp16") != engines
    assert engine_folder(b"a graph", "fp32") != engines


@pytest.mark.parametrize("wrong", ["changed", "longer", "added", "link", "manifest gone", "manifest torn"])
def test_an_engine_that_does_not_fit_its_manifest_is_removed_before_it_is_loaded(engines, tmp_path, capsys, wrong):
    engine = engines / "planner_sm90.engine"
    bad = [engine.name]
    if wrong == "changed":
        engine.write_bytes(b"native c0de")
    elif wrong == "longer":
        engine.write_bytes(b"native code and more")
    elif wrong == "added":
        (engines / "encoder_sm90.engine").write_bytes(b"native code")
        bad = ["encoder_sm90.engine"]
    elif wrong == "link":
        (tmp_path / "theirs").write_bytes(b"native code")
        engine.unlink()
        engine.symlink_to(tmp_path / "theirs")
    else:
        text = (engines / "manifest.json").read_text()
        (engines / "manifest.json").write_text("" if wrong == "manifest gone" else text[:-20])
        bad = WHOLE[2:]
    with checked_engines(engines):
        assert not {*bad} & {*names(engines)}
        assert {*WHOLE} - {*bad} <= {*names(engines)}
    told = capsys.readouterr().err
    for name in bad:
        assert f"{name}: not what its manifest says, so it is removed; TensorRT builds its engine anew" in told
    listed = json.loads((engines / "manifest.json").read_text())["files"]
    assert sorted(listed) == [name for name in WHOLE[2:] if name not in bad]
    for name, entry in listed.items():
        assert entry["sha256"] == hashlib.sha256((engines / name).read_bytes()).hexdigest()


def test_without_a_place_of_ones_own_engines_are_not_kept_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    open_to_all = engine_folder(b"a graph", "fp16")
    open_to_all.chmod(0o777)
    assert engine_folder(b"a graph", "fp16") is None
    assert "built at each start, as they cannot be kept" in capsys.readouterr().err
    (tmp_path / "maskact_ros").rename(tmp_path / "elsewhere")
    (tmp_path / "maskact_ros").write_text("in the way")
    assert engine_folder(b"a graph", "fp16") is None


# what the commands write


@pytest.fixture
def checkpoint(make_spec, tmp_path):
    return save_checkpoint(tmp_path / "policy", MaskACT(make_spec()))


def test_a_checkpoint_is_not_replaced_by_what_is_made_of_it(checkpoint, robot, tmp_path):
    with pytest.raises(MaskACTError, match="policy: exists and is what is read"):
        shrink(checkpoint.folder, checkpoint.folder, overwrite=True)
    with pytest.raises(MaskACTError, match="policy: exists and holds what is read"):
        init_checkpoint(checkpoint.folder / "config.json", checkpoint.folder, robot, overwrite=True)
    CheckpointInfo.read(checkpoint.folder).verify()


def test_a_prediction_replaces_a_prediction_only(checkpoint, tmp_path):
    image, out = tmp_path / "image.png", tmp_path / "out.npz"
    cv2.imwrite(str(image), np.full((48, 64, 3), 90, np.uint8))
    for _ in range(2):
        predict_once(checkpoint.folder, image, [0.0, 0.0, 0.0], out)
    with np.load(out) as values:
        assert set(values) == {"features", "chunk", "pixel_logits", "patch_labels"}
    before = image.read_bytes()
    with pytest.raises(OutputError, match=r"image\.png: exists and is not a prediction that maskact wrote"):
        predict_once(checkpoint.folder, image, [0.0, 0.0, 0.0], image)
    (tmp_path / "link.npz").symlink_to(out)
    with pytest.raises(OutputError, match=r"link\.npz: is a link"):
        predict_once(checkpoint.folder, image, [0.0, 0.0, 0.0], tmp_path / "link.npz")
    assert image.read_bytes() == before
