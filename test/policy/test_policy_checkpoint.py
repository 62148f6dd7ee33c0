"""The checkpoint folder: read back as written, whole or refused, and never half there."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from maskact_ros.core.checkpoint import CheckpointError, CheckpointInfo, default_mask_classes, write_checkpoint
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.backbone import canonical_name
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_checkpoint, load_tensors, save_checkpoint


@pytest.fixture
def model(make_spec):
    torch.manual_seed(4)
    spec = replace(
        make_spec(use_lora=True, freeze_backbone=True, use_aux_head=True),
        geometry=ImageGeometry("letterbox", "area"),
        mask_classes=("background", "arm", "Würfel"),
    )
    return MaskACT(spec)


@pytest.fixture
def saved(model, tmp_path):
    return save_checkpoint(tmp_path / "checkpoint", model)


def test_a_checkpoint_is_read_back_as_written(model, saved):
    info = CheckpointInfo.read(saved.folder)
    assert info == saved
    for name in ("config", "robot", "statistics", "geometry", "mask_classes", "backbone"):
        assert getattr(info, name) == getattr(model.spec, name)
    assert info.weights_hash == hashlib.sha256((saved.folder / "model.safetensors").read_bytes()).hexdigest()
    loaded = load_checkpoint(info)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_loaded_checkpoint_can_be_saved_again(saved, tmp_path):
    again = save_checkpoint(tmp_path / "again", load_checkpoint(saved))
    assert again.weights_hash == saved.weights_hash
    assert CheckpointInfo.read(again.folder) == again


def test_reading_needs_no_torch(saved):
    code = (
        "import sys; from maskact_ros.core.checkpoint import CheckpointInfo; "
        f"CheckpointInfo.read({str(saved.folder)!r}); print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]


def damage(folder, what):
    weights = folder / "model.safetensors"
    match what:
        case "no folder":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "manifest not JSON":
            (folder / "manifest.json").write_text("{")
        case "manifest of another format":
            (folder / "manifest.json").write_text('{"format": 99, "files": {}}')
        case "manifest without a file":
            manifest = json.loads((folder / "manifest.json").read_text())
            del manifest["files"]["stats.json"]
            (folder / "manifest.json").write_text(json.dumps(manifest))
        case "no statistics":
            (folder / "stats.json").unlink()
        case "no weights":
            weights.unlink()
        case "weights truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "weights too long":
            weights.write_bytes(weights.read_bytes() + b"0")
        case "config changed":
            text = (folder / "config.json").read_text()
            (folder / "config.json").write_text(text.replace('"chunk_size": 6', '"chunk_size": 7'))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no folder", "there is no such folder"),
        ("no manifest", "not a checkpoint, it has no manifest.json"),
        ("manifest not JSON", "manifest.json: not JSON"),
        ("manifest of another format", "not the manifest of a checkpoint of format 1"),
        ("manifest without a file", "does not say the size and hash of stats.json"),
        ("no statistics", "stats.json: missing from the checkpoint"),
        ("no weights", "model.safetensors: missing from the checkpoint"),
        ("weights truncated", "model.safetensors: truncated"),
        ("weights too long", "model.safetensors: too long"),
        ("config changed", "config.json: its content has changed"),
    ],
)
def test_a_damaged_checkpoint_is_one_sentence(saved, what, words):
    damage(saved.folder, what)
    with pytest.raises(MaskACTError) as error:
        CheckpointInfo.read(saved.folder)
    assert words in str(error.value)
    assert str(saved.folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_changed_in_place_are_found_when_they_are_loaded(saved):
    path = saved.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    info = CheckpointInfo.read(saved.folder)  # the size is right
    with pytest.raises(CheckpointError, match="its content has changed"):
        load_checkpoint(info)


def test_an_existing_folder_is_overwritten_on_request_only(model, saved):
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(saved.folder, model)
    with torch.no_grad():
        model.planner.act.action_head.bias += 1
    newer = save_checkpoint(saved.folder, model, overwrite=True)
    assert newer.weights_hash != saved.weights_hash
    assert CheckpointInfo.read(saved.folder) == newer
    assert [path.name for path in saved.folder.parent.iterdir()] == ["checkpoint"]


def test_a_folder_that_is_no_checkpoint_is_never_overwritten(model, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="exists and is not a checkpoint"):
        save_checkpoint(tmp_path / "precious", model, overwrite=True)
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "years of work"


def test_a_manifest_of_something_else_makes_no_checkpoint(model, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "my web app"}')
    with pytest.raises(CheckpointError, match="exists and is not a checkpoint"):
        save_checkpoint(tmp_path / "app", model, overwrite=True)
    assert (tmp_path / "app" / "manifest.json").exists()


def test_a_checkpoint_with_a_file_of_somebody_elses_is_not_overwritten(model, saved):
    (saved.folder / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds thesis\.tex beside a checkpoint"):
        save_checkpoint(saved.folder, model, overwrite=True)
    assert (saved.folder / "thesis.tex").read_text() == "years of work"


def test_through_a_link_no_checkpoint_is_overwritten(model, saved):
    link = saved.folder.parent / "link"
    link.symlink_to(saved.folder)
    with torch.no_grad():
        model.planner.act.action_head.bias += 1
    with pytest.raises(MaskACTError, match=r"link: is a link to .*checkpoint, and nothing is written through a link"):
        save_checkpoint(link, model, overwrite=True)
    CheckpointInfo.read(saved.folder).verify()
    assert link.readlink() == saved.folder
    assert sorted(path.name for path in saved.folder.parent.iterdir()) == ["checkpoint", "link"]


def test_a_path_that_cannot_be_one_is_one_sentence(model):
    for path in ("~nosuchuser/checkpoint", "a" * 300):
        with pytest.raises(MaskACTError, match=r"no path|File name too long"):
            CheckpointInfo.read(path)
        with pytest.raises(MaskACTError, match=r"no path|File name too long"):
            save_checkpoint(path, model)


def test_an_interrupted_write_leaves_nothing(model, tmp_path):
    def interrupted(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "checkpoint", model.spec, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "checkpoint", model)


def test_mask_classes_must_fit_num_mask(make_spec):
    with pytest.raises(CheckpointError, match="as many different names as num_mask, which is 3"):
        replace(make_spec(), mask_classes=("background", "robot"))


def test_statistics_must_fit_the_robot(make_spec):
    statistics = make_spec().statistics
    short = replace(statistics, action=replace(statistics.action, std=(1.0, 1.0)))
    with pytest.raises(MaskACTError, match="statistics of action: std has 2 numbers; allowed: 3"):
        replace(make_spec(), statistics=short)


def test_mask_classes_have_names_by_default():
    assert default_mask_classes(2) == ("background", "robot")
    assert default_mask_classes(5) == ("background", "robot", "object", "object 2", "object 3")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda tensor: torch.full_like(tensor, float("nan")), "is not all finite"),
        (lambda tensor: tensor.double() + 1e300, "is not all finite"),
        (lambda tensor: tensor.to(torch.int8), "is torch.int8, the policy's is torch.float32"),
        (lambda tensor: tensor.to(torch.complex64), "is torch.complex64, the policy's is torch.float32"),
    ],
)
def test_weights_of_another_kind_or_not_finite_are_one_sentence_with_the_tensors_name(model, changed, words):
    tensors = {canonical_name(name): tensor for name, tensor in model.state_dict().items()}
    name = "planner.act.action_head.weight"
    tensors[name] = changed(tensors[name])
    with pytest.raises(PolicyError) as error:
        load_tensors(MaskACT(model.spec), tensors, "file")
    assert words in str(error.value)
    assert name in str(error.value)


def test_weights_of_another_precision_are_welcome(model):
    tensors = {canonical_name(name): tensor for name, tensor in model.state_dict().items()}
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    other = MaskACT(model.spec)
    load_tensors(other, halved, "file")
    torch.testing.assert_close(
        other.planner.act.action_head.weight, model.planner.act.action_head.weight, rtol=2**-10, atol=1e-6
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_encoder_layers": 2}, "missing"),
        ({"use_vae": False}, "unknown to this policy's configuration"),
        ({"dim_feedforward": 32}, "has the shape [24], the policy's has [32]"),
    ],
)
def test_weights_of_another_configuration_are_one_sentence_with_names(saved, changes, words):
    info = replace(saved, config=replace(saved.config, **changes))
    with pytest.raises(PolicyError) as error:
        load_checkpoint(info)
    assert words in str(error.value)
    assert "planner.act." in str(error.value)
