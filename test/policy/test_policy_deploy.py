"""What runs on a robot computes what the plain modules compute, for every kind of policy."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskact_ros.policy.deploy.deploy import deployed_perception, deployed_planner
from maskact_ros.policy.deploy.label_groups import attention_groups
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.rules import configured_rules

TOLERANCE = 1e-5  # of the largest value
RULES = {"-1": [-1, 1, 2], "0": [0], "2": [1]}


def randomised(spec) -> MaskACT:
    """A policy in which every weight matters, batch norm's statistics and LayerScale included."""
    torch.manual_seed(3)
    model = MaskACT(spec).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if name.endswith(("running_var", "lambda1")) or ("norm" in name and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() < 2:
                tensor.normal_(std=0.3)
            elif "lora_B" in name:
                tensor.normal_(std=0.1)
    return model


def assert_close(found, expected):
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= TOLERANCE * scale, (found - expected).abs().max() / scale


PERCEPTIONS = [
    dict(zip(("use_mask", "use_lora", "use_aux_head", "image_size"), values, strict=True))
    for values in itertools.product([True, False], [True, False], [True, False], [48, 320])
]


@pytest.mark.parametrize("changes", PERCEPTIONS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_encoder_and_mask_head_are_the_plain_ones(make_spec, tmp_path, changes):
    model = randomised(make_spec(**changes, freeze_backbone=changes["use_lora"]))
    encoder, mask_head = deployed_perception(save_checkpoint(tmp_path / "checkpoint", model))
    size = changes["image_size"]
    image = torch.randint(0, 256, (size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = model.encode(image[None])
        features = encoder(image)
    assert_close(features, expected.features[0])
    if expected.segmentation is None:
        assert mask_head is None
        return
    importance = torch.tensor([1.0, 4.0, 0.3])
    model.perception.importance = importance
    with torch.no_grad():
        plain = model.perception.segment(features[None])
        labels, confidence, logits = mask_head(features, importance)
    assert_close(logits, plain.pixel_logits[0])
    assert_close(confidence, plain.patch_confidence[0])
    assert torch.equal(labels, plain.patch_labels[0])


@pytest.mark.parametrize("changes", [{"use_gated_mlp": True}, {"num_register_tokens": 0}, {"key_bias": True}])
def test_other_settings_of_the_backbone(make_spec, tmp_path, changes):
    spec = make_spec(use_lora=True, freeze_backbone=True)
    model = randomised(replace(spec, backbone=dict(spec.backbone) | changes))
    encoder, _ = deployed_perception(save_checkpoint(tmp_path / "checkpoint", model))
    image = torch.randint(0, 256, (48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert_close(encoder(image), model.encode(image[None]).features[0])


NAMES = ("use_mask", "use_vae", "pre_norm", "position_in_tokens", "feedforward_activation", "n_decoder_layers")
PLANNERS = [
    dict(zip(NAMES, values, strict=True))
    for values in itertools.product(
        [True, False], [True, False], [True, False], [True, False], ["relu", "gelu", "glu"], [1, 3]
    )
]


@pytest.mark.parametrize("changes", PLANNERS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_the_planner_is_the_plain_one(make_spec, tmp_path, changes):
    ruled = {"label_attention_rules": RULES} if changes["use_mask"] else {}
    model = randomised(make_spec(**changes, **ruled, n_encoder_layers=2))
    planner = deployed_planner(save_checkpoint(tmp_path / "checkpoint", model))
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(9, 16, generator=generator)
    labels = torch.randint(0, 3, (9,), generator=generator) if changes["use_mask"] else None
    state = torch.tensor([0.1, -0.4, 1.5])
    rules = configured_rules(model.spec.config)
    with torch.no_grad():
        expected = model.act(features[None], None if labels is None else labels[None], state[None])[0]
        found = planner(features, torch.arange(9), state, labels, None if rules is None else torch.from_numpy(rules))
    assert_close(found, expected)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2, 0, 0, 1], [0] * 9, [2] * 9])
@pytest.mark.parametrize("rules", [None, RULES, {"1": [2]}])
def test_dropped_patches_are_those_that_are_not_given(make_spec, tmp_path, labels, rules):
    model = randomised(make_spec(dropped_labels=[0], label_attention_rules=rules))
    planner = deployed_planner(save_checkpoint(tmp_path / "checkpoint", model))
    features, labels = torch.randn(9, 16, generator=torch.Generator().manual_seed(6)), torch.tensor(labels)
    state, kept = torch.tensor([0.1, -0.4, 1.5]), torch.from_numpy(np.flatnonzero(labels != 0))
    table = configured_rules(model.spec.config)
    with torch.no_grad():
        expected = model.act(features[None], labels[None], state[None])[0]
        found = planner(features[kept], kept, state, labels[kept], None if table is None else torch.from_numpy(table))
    assert_close(found, expected)


GROUPED = [RULES, {"1": [2]}, {"-1": [-1], "0": [0], "1": [1], "2": [2]}, {"-1": [2], "1": [-1, 0]}, {"0": [0, 1, 2]}]


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2, 0, 0, 1], [2, 1, 1, 2, 1, 2, 1, 2, 2], [0] * 9])
@pytest.mark.parametrize("rules", GROUPED)
@pytest.mark.parametrize("pre_norm", [True, False])
def test_attention_in_groups_is_attention_with_a_mask(make_spec, tmp_path, labels, rules, pre_norm):
    model = randomised(make_spec(label_attention_rules=rules, n_encoder_layers=2, pre_norm=pre_norm))
    planner = deployed_planner(save_checkpoint(tmp_path / "checkpoint", model))
    features, labels = torch.randn(9, 16, generator=torch.Generator().manual_seed(6)), np.array(labels)
    state = torch.tensor([0.1, -0.4, 1.5])
    order, groups = attention_groups(labels, configured_rules(model.spec.config), prefix=2)
    patches = torch.from_numpy(order)
    with torch.no_grad():
        expected = model.act(features[None], torch.from_numpy(labels)[None], state[None])[0]
        found = planner(features[patches], patches, state, torch.from_numpy(labels[order]), groups=groups)
    assert_close(found, expected)


def test_groups_are_as_few_as_the_rules_allow():
    labels, table = np.array([1, 0, 2, 0]), np.ones((4, 4), np.bool_)
    assert attention_groups(labels, table, prefix=2)[1] == ((slice(0, 6), (slice(0, 6),)),)
    table[1] = [False, True, False, False]  # label 0 sees itself only
    order, groups = attention_groups(labels, table, prefix=2)
    assert labels[order].tolist() == [1, 2, 0, 0]
    assert groups == ((slice(0, 4), (slice(0, 6),)), (slice(4, 6), (slice(4, 6),)))
