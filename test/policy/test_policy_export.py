"""`maskact export` writes a whole folder or none, and says how far its graphs are from torch."""

import importlib.util
import json

import onnx
import pytest
import torch
from support.conversions import Conversions

from maskact_ros.cli import main
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.onnx import export as exporting
from maskact_ros.policy.onnx import onnx_check
from maskact_ros.policy.onnx.export import export
from maskact_ros.policy.onnx.onnx_files import Export, export_folder

FILES = ["encoder.onnx", "export.json", "mask_head.onnx", "planner.onnx"]


@pytest.fixture(scope="module")
def info(make_spec, tmp_path_factory):
    torch.manual_seed(3)
    info = save_checkpoint(tmp_path_factory.mktemp("export") / "policy", MaskACT(make_spec()))
    export(info.folder, precision="fp32")
    return info


@pytest.fixture(scope="module")
def conversions(tmp_path_factory):
    return Conversions(tmp_path_factory.mktemp("converted"))


@pytest.fixture
def unexported(make_spec, tmp_path, conversions, monkeypatch):
    """A policy, the same each time: the tests are of what is done with its graphs."""
    monkeypatch.setattr(exporting, "write_graph", conversions.write_graph)
    torch.manual_seed(6)
    return save_checkpoint(tmp_path / "policy", MaskACT(make_spec(use_mask=False)))


def run(*words) -> int:
    with pytest.raises(SystemExit) as end:
        main(["export", *map(str, words)])
    return end.value.code


def interrupted(*_):
    raise KeyboardInterrupt


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_holds_the_graphs_and_what_is_known_of_them(info):
    folder = export_folder(info, "fp32")
    assert names_in(folder) == FILES
    found = Export.read(info, "fp32")
    assert (found.weights_hash, found.precision, found.dynamic, found.patches) == (info.weights_hash, "fp32", False, 9)
    assert found.inputs["planner"]["features"] == [9, 16]
    assert set(found.differences) == {
        *("encoder.features", "planner.actions"),
        *("mask_head.pixel_logits", "mask_head.patch_confidence", "mask_head.patch_labels"),
    }
    assert all(difference.passes for difference in found.differences.values())
    assert found.differences["encoder.features"].largest > 0  # something was compared
    assert onnx.load(folder / "encoder.onnx").opset_import[0].version == found.opset


def test_lora_is_merged_and_nothing_of_training_is_there(info):
    graph = onnx.load(export_folder(info, "fp32") / "planner.onnx")
    assert not any("vae" in tensor.name or "lora" in tensor.name for tensor in graph.graph.initializer)


def test_differences_and_progress_are_said(unexported, capsys):
    assert run(unexported.folder, "--dynamic") == 0
    out, err = capsys.readouterr()
    assert "fp32, any number of patches" in out
    assert "encoder.features: " in out
    assert "allowed 0.0001" in out
    assert err.splitlines() == [
        f"loading {unexported.folder}",
        *("exporting the encoder", "exporting the planner", "comparing with torch"),
    ]
    assert Export.read(unexported, "fp32").inputs["planner"]["features"] == ["patches", 16]


@pytest.mark.extended
def test_int8_is_said_to_be_measured_in_the_simulated_task(unexported, capsys):
    assert run(unexported.folder, "--precision", "int8") == 0
    assert f"maskact evaluate {unexported.folder} --backend onnxruntime --precision int8" in capsys.readouterr().out


@pytest.mark.extended
def test_a_policy_trained_without_some_patches_takes_any_number_of_them(make_spec, tmp_path):
    info = save_checkpoint(tmp_path / "policy", MaskACT(make_spec(dropped_labels=[0])))
    assert export(info.folder, precision="fp32").dynamic


def test_an_export_is_replaced_only_where_that_is_asked_for(info, capsys):
    before = Export.read(info, "fp32")
    assert run(info.folder) == 1
    assert "fp32: exists already; --overwrite replaces it" in capsys.readouterr().err
    assert run(info.folder, "--overwrite") == 0
    assert Export.read(info, "fp32").files.keys() == before.files.keys()


def test_a_folder_that_is_no_export_is_never_replaced(info, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(MaskACTError, match="exists and is not an export"):
        export(info.folder, precision="fp32", out=tmp_path, overwrite=True)
    assert names_in(tmp_path) == ["thesis.tex"]


def test_it_is_written_elsewhere_where_that_is_asked_for(unexported, tmp_path):
    export(unexported.folder, precision="fp32", out=tmp_path / "elsewhere")
    assert names_in(tmp_path / "elsewhere") == ["encoder.onnx", "export.json", "planner.onnx"]
    assert not (unexported.folder / "onnx").exists()


def test_past_the_tolerance_it_fails_and_leaves_nothing(unexported, capsys, monkeypatch):
    monkeypatch.setitem(onnx_check._TOLERANCES, "fp32", (0.0, 0.0, 0.0, 0.0, 0.0))
    assert run(unexported.folder) == 1
    assert "the export in fp32 is too far from torch, and is not kept: encoder.features" in capsys.readouterr().err
    assert not (unexported.folder / "onnx").exists()


@pytest.mark.extended
def test_what_is_not_finite_is_past_any_tolerance(make_spec, tmp_path):
    model = MaskACT(make_spec(use_mask=False))
    model.perception.encoder.projection.bias.data[0] = 1e6  # in half precision that is infinite
    info = save_checkpoint(tmp_path / "policy", model)
    with pytest.raises(PolicyError, match="too far from torch"):
        export(info.folder, precision="fp16")


def test_ctrl_c_leaves_nothing_and_an_older_export_as_it_was(info, monkeypatch):
    before = Export.read(info, "fp32")
    monkeypatch.setattr(exporting, "write_graph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(info.folder, precision="fp32", overwrite=True)
    assert Export.read(info, "fp32") == before
    assert names_in(info.folder / "onnx") == ["fp32"]


def test_ctrl_c_in_the_first_export_leaves_the_checkpoint_as_it_was(unexported, monkeypatch):
    before = names_in(unexported.folder)
    monkeypatch.setattr(exporting, "write_graph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(unexported.folder, precision="fp32")
    assert names_in(unexported.folder) == before


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_one_sentence_that_says_how_to_get_it(unexported, library, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == library else find(name))
    with pytest.raises(PolicyError, match=rf"{library} not installed, .*: pip install \"maskact_ros\[onnx\]\""):
        export(unexported.folder, precision="fp32")


def test_a_damaged_checkpoint_is_not_exported(unexported):
    weights = unexported.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(MaskACTError, match="has changed"):
        export(unexported.folder, precision="fp32")


def test_overwriting_a_checkpoint_removes_its_exports_and_what_a_killed_one_left(unexported, make_spec):
    info = unexported
    export(info.folder, precision="fp32")
    (info.folder / "onnx" / f".int8.{'0123' * 8}").mkdir()
    save_checkpoint(info.folder, MaskACT(make_spec(use_mask=False)), overwrite=True)
    CheckpointInfo.read(info.folder).verify()
    assert not (info.folder / "onnx").exists()


def test_a_checkpoint_whose_exports_hold_something_else_is_not_overwritten(make_spec, tmp_path):
    info = save_checkpoint(tmp_path / "policy", MaskACT(make_spec()))
    (info.folder / "onnx" / "notes").mkdir(parents=True)
    (info.folder / "onnx" / "notes" / "thesis.tex").touch()
    with pytest.raises(MaskACTError, match=r"holds onnx/notes/thesis\.tex beside a checkpoint"):
        save_checkpoint(info.folder, MaskACT(make_spec()), overwrite=True)


def test_the_record_is_read_as_it_was_written(info):
    values = json.loads((export_folder(info, "fp32") / "export.json").read_text())
    assert values["format"] == 1
    assert set(values["files"]) == set(FILES) - {"export.json"}
    assert {"torch", "onnx", "onnxruntime"} <= set(values["made_with"])
