"""The policy computes what the published reference computes, and reads the checkpoints that it writes."""

import json

import cv2
import numpy as np
import pytest
import torch
from support.reference_checkpoint import REFERENCE, reference_tensors, write_reference

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.commands import import_reference, predict_once
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime


@pytest.fixture(scope="module")
def vectors():
    return np.load(REFERENCE / "io.npz")


@pytest.fixture(scope="module")
def imported(reference_folder, tmp_path_factory):
    return import_reference(
        reference_folder, tmp_path_factory.mktemp("imported") / "checkpoint", REFERENCE / "backbone"
    )


def predicted(checkpoint, vectors, tmp_path):
    image, out = tmp_path / "image.png", tmp_path / "out.npz"
    cv2.imwrite(str(image), cv2.cvtColor(vectors["image"], cv2.COLOR_RGB2BGR))
    predict_once(checkpoint, image, vectors["state"].tolist(), out)
    return np.load(out)


def assert_reproduced(result, vectors):
    np.testing.assert_allclose(result["features"], vectors["features"], atol=1e-4)
    np.testing.assert_allclose(result["chunk"], vectors["chunk"], atol=1e-4)
    # fp16 keeps eleven bits.
    np.testing.assert_allclose(result["pixel_logits"], vectors["pixel_logits"], rtol=2**-11, atol=1e-4)
    np.testing.assert_array_equal(result["patch_labels"], vectors["patch_labels"])


def test_an_imported_checkpoint_reproduces_the_reference(imported, vectors, tmp_path):
    assert_reproduced(predicted(imported.folder, vectors, tmp_path), vectors)


def test_the_vectors_have_several_labels(vectors):
    assert len(np.unique(vectors["patch_labels"])) == 3


def test_the_checkpoint_keeps_what_the_reference_says(imported):
    info = CheckpointInfo.read(imported.folder)
    assert info.config.chunk_size == 10
    assert info.config.label_attention_rules[1] == (-1, 1, 2)
    assert info.robot.joint_names == tuple(f"joint_{i}" for i in range(1, 8))
    assert info.robot.only_camera.name == "cam_0"
    assert info.mask_classes == ("background", "robot", "object")


def test_the_nodes_runtimes_reproduce_the_reference(imported, vectors):
    encoding = EncoderRuntime.load(imported).encode(vectors["image"], label_image=True, confidence_image=True)
    np.testing.assert_array_equal(encoding.patch_labels, vectors["patch_labels"])
    np.testing.assert_allclose(encoding.features, vectors["features"], rtol=2**-10, atol=1e-4)
    logits = vectors["pixel_logits"].astype(np.float32)
    first, second = np.sort(logits, axis=0)[::-1][:2]
    clear = first - second > 0.05  # fp16 cannot tell the others apart
    np.testing.assert_array_equal(encoding.label_image[clear], logits.argmax(0)[clear])
    probability = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
    np.testing.assert_allclose(encoding.confidence_image, probability.max(0), atol=0.01)

    planner = PlannerRuntime.load(imported)
    exact = planner.predict(vectors["features"], vectors["patch_labels"], vectors["state"])
    np.testing.assert_allclose(exact, vectors["chunk"], atol=1e-4)
    # Half-precision features, as the message carries them, cost less than a thousandth of the chunk's range.
    rounded = planner.predict(encoding.features, encoding.patch_labels, vectors["state"])
    np.testing.assert_allclose(rounded, vectors["chunk"], atol=1e-3 * np.ptp(vectors["chunk"]))


def test_names_of_transformers_5_are_imported_as_well(vectors, tmp_path):
    renamed = {name.replace(".model.layer.", ".model.model.layer."): t for name, t in reference_tensors().items()}
    folder = write_reference(tmp_path / "checkpoint", renamed)
    import_reference(folder, tmp_path / "out", REFERENCE / "backbone")
    assert_reproduced(predicted(tmp_path / "out", vectors, tmp_path), vectors)


def test_a_reference_without_lora_is_imported_as_well(vectors, tmp_path):
    plain = {}
    for name, tensor in reference_tensors().items():
        if ".lora_" in name:
            continue
        value = tensor
        if name.endswith(".base_layer.weight"):
            adapter = name.replace(".base_layer.weight", ".lora_{}.default.weight")
            tensors = reference_tensors()
            value = tensor + 4 / 4**0.5 * tensors[adapter.format("B")] @ tensors[adapter.format("A")]
        plain[name.replace(".base_layer.", ".").replace(".base_model.model.", ".")] = value
    folder = write_reference(tmp_path / "checkpoint", plain, use_lora=False)
    import_reference(folder, tmp_path / "out", REFERENCE / "backbone")
    assert_reproduced(predicted(tmp_path / "out", vectors, tmp_path), vectors)


@pytest.mark.parametrize("use_aux_head", [False, True])
def test_the_references_untrained_auxiliary_head_is_left_behind_and_said(vectors, tmp_path, capsys, use_aux_head):
    tensors = reference_tensors() | {"model.mask_head.aux_head.cls_seg.weight": torch.zeros(3, 64, 1, 1)}
    folder = write_reference(tmp_path / "checkpoint", tensors, use_aux_head=use_aux_head)
    import_reference(folder, tmp_path / "out", REFERENCE / "backbone")
    assert "auxiliary head, which it never trains, was left behind (1 tensors)" in capsys.readouterr().out
    assert_reproduced(predicted(tmp_path / "out", vectors, tmp_path), vectors)


def test_the_references_own_label_of_the_state_becomes_minus_one(vectors, tmp_path):
    rules = {"0": [0], "1": [1, 2, 9], "2": [1, 2, 9], "9": [0, 1, 2, 9]}
    folder = write_reference(tmp_path / "checkpoint", reference_tensors(), label_attention_rules=rules, lowdim_label=9)
    import_reference(folder, tmp_path / "out", REFERENCE / "backbone")
    assert_reproduced(predicted(tmp_path / "out", vectors, tmp_path), vectors)


def shapes(camera, joints):
    """Features of other shapes."""
    return {
        "input_features": {
            "observation.images.cam_0": {"type": "VISUAL", "shape": camera},
            "observation.state": {"type": "STATE", "shape": joints},
        },
        "output_features": {"action": {"type": "ACTION", "shape": joints}},
    }


def without(name):
    return {key: tensor for key, tensor in reference_tensors().items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (lambda: without("model.action_head.bias"), {}, "tensor planner.act.action_head.bias is missing"),
        (
            lambda: reference_tensors() | {"model.extra.weight": torch.zeros(1)},
            {},
            "tensor model.extra.weight is unknown",
        ),
        (reference_tensors, {"dim_feedforward": 64}, "has the shape [128], the policy's has [64]"),
        (
            lambda: without("unnormalize_outputs.buffer_action.std") | {"normalize_targets.buffer_action.std": None},
            {},
            "statistics of action: std is missing",
        ),
        (reference_tensors, {"use_lowdim": False}, "use_lowdim is false"),
        (reference_tensors, {"lowdim_label": 2}, "lowdim_label is 2"),
        (reference_tensors, {"input_features": {}}, "do not describe one camera"),
        (reference_tensors, shapes([3, 96, 96], ["q"]), "do not describe one camera"),
        (reference_tensors, shapes([3, 96, 96], [1.5]), "do not describe one camera"),
        (reference_tensors, shapes([3, 96, 96], [-7]), "do not describe one camera"),
        (reference_tensors, shapes([3, "x", 96], [7]), "do not describe one camera"),
        (reference_tensors, {"num_mask": "x", "lowdim_label": 9}, 'config.json: num_mask is "x"'),
        (reference_tensors, {"colour": 1}, "config.json: unknown parameter colour"),
    ],
    ids=[
        *("missing", "unknown", "shape", "statistics", "no state", "label", "features"),
        *("state of text", "state of 1.5", "state of -7", "camera of text", "num_mask", "key"),
    ],
)
def test_a_reference_that_does_not_fit_is_one_sentence(tmp_path, tensors, config, words):
    tensors = {name: tensor for name, tensor in tensors().items() if tensor is not None}
    folder = write_reference(tmp_path / "checkpoint", tensors, **config)
    with pytest.raises(MaskACTError) as error:
        import_reference(folder, tmp_path / "out", REFERENCE / "backbone")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_second_camera_is_refused_by_name(reference_folder, tmp_path):
    inputs = json.loads((REFERENCE / "config.json").read_text())["input_features"]
    inputs["observation.images.wrist"] = {"type": "VISUAL", "shape": [3, 96, 96]}
    folder = write_reference(tmp_path / "checkpoint", {}, input_features=inputs)
    with pytest.raises(PolicyError, match=r"cameras observation.images.cam_0, observation.images.wrist"):
        import_reference(folder, tmp_path / "out", REFERENCE / "backbone")


def test_a_robot_of_other_width_is_refused_by_name(reference_folder, robot, tmp_path):
    with pytest.raises(PolicyError, match="robot test_arm has 3 joints, the reference's 7"):
        import_reference(reference_folder, tmp_path / "out", REFERENCE / "backbone", robot)
