"""Every parameter of the specification has an effect on the policy or on its training; the last test counts them."""

import json
from dataclasses import replace

import pytest
import torch
from support.reference_checkpoint import BACKBONE

from maskact_ros.core.config import PARAMETERS, MaskACTConfig
from maskact_ros.policy.commands import init_checkpoint
from maskact_ros.policy.model.backbone import build_backbone
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.optimizer import build_optimizer, parameter_groups

# What the nodes do with a chunk, shown by their tests; a window of one has no alternative.
OF_THE_NODES = {"n_action_steps", "temporal_ensemble_coeff"}
WITHOUT_ALTERNATIVE = {"n_obs_steps"}

TENSORS = {  # a value of the parameter, and part of a tensor's name that appears, disappears or changes its shape
    "chunk_size": (7, "action_queries"),
    "dim_model": (32, "encoder.projection.weight"),
    "dim_feedforward": (32, "act.encoder.layers.0.feed_forward.linear1"),
    "mask_head_channels": (24, "mask_head.classifier"),
    "n_encoder_layers": (2, "act.encoder.layers.1."),
    "n_decoder_layers": (2, "act.decoder.layers.1."),
    "latent_dim": (8, "vae.latent_projection"),
    "n_vae_encoder_layers": (2, "vae.encoder.layers.1."),
    "use_vae": (False, "vae.class_token"),
    "use_mask": (False, "mask_head.classifier"),
    "num_mask": (5, "mask_head.classifier"),
    "use_aux_head": (True, "auxiliary_head"),
    "use_lora": (True, "q_proj.lora_A"),
}
OUTPUT = {  # with the very same weights, this value gives other features, labels, masks or actions
    "n_heads": 4,
    "feedforward_activation": "gelu",
    "normalization_mapping": {"VISUAL": "IDENTITY"},
    "mask_importance_weights": [0.0, 0.0, 10.0],
    "label_attention_rules": {"0": [0], "1": [1], "2": [2], "-1": [-1]},
    "dropped_labels": [0, 1, 2],
    "position_in_tokens": True,
}
LOSS = {  # with the very same weights, this value gives another total
    "training_stage": "stage1",
    "mask_loss_weight": 0.9,
    "action_loss_weight": 2.0,
    "kl_weight": 20.0,
    "dropout": 0.5,
}
SHOWN = {
    *TENSORS,
    *OUTPUT,
    *LOSS,
    "pre_norm",
    "image_size",
    "lora_config",
    "freeze_backbone",
    "stage2_freeze_mask_head",
    "stage2_dino_lr_ratio",
    "optimizer_lr",
    "optimizer_lr_backbone",
    "optimizer_betas",
    "optimizer_weight_decay",
    "vision_backbone",
    "dino_model_dir",
}


def built(spec, seed=0):
    torch.manual_seed(seed)
    return MaskACT(spec)


def shapes(spec):
    return {name: tuple(tensor.shape) for name, tensor in built(spec).state_dict().items()}


def outputs(spec, weights, batch):
    model = built(spec)
    model.load_state_dict(weights)
    with torch.no_grad():
        encoded = model.eval().encode(batch.images)
        labels = None if encoded.segmentation is None else encoded.segmentation.patch_labels
        return encoded.features, labels, model.act(encoded.features, labels, batch.state)


def total(spec, weights, batch):
    model = built(spec)
    model.load_state_dict(weights)
    torch.manual_seed(1)  # of dropout and the latent's sample
    return model.train()(batch).total.item()


def rates(spec):
    return {group["name"]: group["lr"] for group in parameter_groups(built(spec))}


def trained(spec):
    return {name for name, parameter in built(spec).named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", TENSORS)
def test_the_parameter_changes_the_policys_tensors(make_spec, name):
    value, part = TENSORS[name]
    before, after = shapes(make_spec()), shapes(make_spec(**{name: value}))
    assert any(part in key for key, _ in before.items() ^ after.items())


@pytest.mark.parametrize("name", OUTPUT)
def test_the_parameter_changes_what_the_same_weights_compute(make_spec, batch, name):
    weights = built(make_spec()).state_dict()
    before = outputs(make_spec(), weights, batch)
    after = outputs(make_spec(**{name: OUTPUT[name]}), weights, batch)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", LOSS)
def test_the_parameter_changes_the_loss_of_the_same_weights(make_spec, batch, name):
    weights = built(make_spec()).state_dict()
    assert total(make_spec(), weights, batch) == total(make_spec(), weights, batch)
    assert total(make_spec(), weights, batch) != total(make_spec(**{name: LOSS[name]}), weights, batch)


@pytest.mark.parametrize("feature", ["VISUAL", "STATE", "ACTION"])
@pytest.mark.parametrize("mode", ["MIN_MAX", "IDENTITY"])
def test_each_feature_is_normalised_by_its_own_mode(make_spec, batch, feature, mode):
    weights = built(make_spec()).state_dict()
    *_, before = outputs(make_spec(), weights, batch)
    *_, after = outputs(make_spec(normalization_mapping={feature: mode}), weights, batch)
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("activation", ["relu", "gelu", "glu"])
@pytest.mark.parametrize("pre_norm", [False, True])
def test_every_layer_variant_trains(make_spec, batch, activation, pre_norm):
    model = built(make_spec(feedforward_activation=activation, pre_norm=pre_norm)).train()
    result = model(batch)
    result.total.backward()
    assert torch.isfinite(result.total)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_pre_norm_adds_the_encoders_last_norm(make_spec):
    assert "planner.act.encoder.norm.weight" in shapes(make_spec(pre_norm=True))
    assert "planner.act.encoder.norm.weight" not in shapes(make_spec())


def test_image_size_sets_the_number_of_patches(make_spec, batch):
    model = built(make_spec(image_size=32)).eval()
    encoded = model.encode(batch.images[:, :32, :32])
    assert encoded.features.shape == (2, 4, 16)
    assert encoded.segmentation.pixel_logits.shape == (2, 3, 32, 32)


def test_masks_off_leaves_no_labels_and_no_rules(make_spec, batch):
    off = make_spec(use_mask=False, label_attention_rules={"0": ["0"]}, use_aux_head=True)
    model = built(off).eval()
    encoded = model.encode(batch.images)
    assert encoded.segmentation is None
    assert model.planner.act.rules is None
    assert not any("label" in name or "head." in name.replace("action_head.", "") for name in model.state_dict())
    assert model.act(encoded.features, None, batch.state).shape == (2, 6, 3)


def test_every_entry_of_lora_config_has_an_effect(make_spec, batch):
    def spec(**lora):
        return make_spec(use_lora=True, freeze_backbone=True, lora_config=lora)

    assert shapes(spec(r=2)) != shapes(spec(r=4))
    assert shapes(spec(target_modules=["o_proj"])) != shapes(spec())
    assert trained(spec(bias="all")) > trained(spec(bias="lora_only")) > trained(spec(bias="none"))
    weights = {
        name: torch.ones_like(tensor) if "lora_B" in name else tensor
        for name, tensor in built(spec()).state_dict().items()
    }
    features, *_ = outputs(spec(lora_alpha=1), weights, batch)
    stronger, *_ = outputs(spec(lora_alpha=2), weights, batch)
    assert not torch.allclose(features, stronger)
    assert total(spec(lora_dropout=0.0), weights, batch) != total(spec(lora_dropout=0.5), weights, batch)


def test_no_lora_config_is_the_default_adapter(make_spec):
    default = {"r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj"]}
    assert shapes(make_spec(use_lora=True)) == shapes(make_spec(use_lora=True, lora_config=default))


@pytest.mark.parametrize("use_lora", [False, True])
def test_freeze_backbone_freezes_its_own_weights_and_never_loras(make_spec, use_lora):
    frozen = trained(make_spec(freeze_backbone=True, use_lora=use_lora))
    free = trained(make_spec(freeze_backbone=False, use_lora=use_lora))
    backbone = {name for name in free if "backbone" in name}
    adapters = {name for name in backbone if "lora_" in name}
    assert bool(adapters) == use_lora
    assert free - frozen == backbone - adapters


def test_stage_1_learns_with_its_two_rates(make_spec):
    config = {"training_stage": "stage1", "optimizer_lr": 0.5, "optimizer_lr_backbone": 0.25, "use_aux_head": True}
    assert rates(make_spec(**config)) == {"encoder": 0.25, "mask_head": 0.5, "auxiliary_head": 0.5}


def test_stage_2_learns_with_its_rates(make_spec):
    config = {"optimizer_lr": 0.5, "stage2_dino_lr_ratio": 0.3, "optimizer_lr_backbone": 0.25}
    expected = {"encoder": 0.15, "mask_head": 0.05, "planner": 0.5}
    assert rates(make_spec(**config)) == pytest.approx(expected)
    del expected["mask_head"]
    assert rates(make_spec(**config, stage2_freeze_mask_head=True)) == pytest.approx(expected)


def test_a_frozen_mask_head_keeps_its_weights_and_statistics(make_spec, batch):
    model = built(make_spec(stage2_freeze_mask_head=True, optimizer_lr=0.1)).train()
    before = {name: tensor.clone() for name, tensor in model.perception.mask_head.state_dict().items()}
    optimizer = build_optimizer(model)
    model(batch).total.backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.perception.mask_head.state_dict().items())


@pytest.mark.parametrize("backbone", [{"use_lora": True, "freeze_backbone": True}, {"freeze_backbone": False}])
def test_an_encoder_without_a_rate_keeps_its_weights_in_stage_2(make_spec, batch, backbone):
    spec = make_spec(stage2_dino_lr_ratio=0.0, optimizer_lr=0.1, **backbone)
    model = built(spec).train()
    before = {name: tensor.clone() for name, tensor in model.perception.encoder.state_dict().items()}
    optimizer = build_optimizer(model)
    assert rates(spec).keys() == {"mask_head", "planner"}
    assert not model.perception.features(batch.images).requires_grad
    assert not any(module.training for module in model.perception.encoder.modules())
    model(batch).total.backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.perception.encoder.state_dict().items())


def test_the_ratio_of_stage_2_says_nothing_about_stage_1(make_spec):
    assert "encoder" in rates(make_spec(training_stage="stage1", stage2_dino_lr_ratio=0.0, freeze_backbone=False))


def test_the_groups_hold_every_trained_parameter_once(make_spec):
    for stage in ("stage1", "stage2"):
        model = built(make_spec(training_stage=stage, use_lora=True, freeze_backbone=True, use_aux_head=True))
        grouped = [id(p) for group in parameter_groups(model) for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_the_optimizer_has_the_betas_and_the_weight_decay(make_spec):
    optimizer = build_optimizer(built(make_spec(optimizer_betas=[0.8, 0.95], optimizer_weight_decay=0.07)))
    assert {(group["betas"], group["weight_decay"]) for group in optimizer.param_groups} == {((0.8, 0.95), 0.07)}


def test_vision_backbone_is_the_size_where_there_is_no_folder(monkeypatch, tmp_path, robot, capsys):
    config = MaskACTConfig.from_dict(
        {"dim_model": 16, "n_heads": 2, "dim_feedforward": 16, "image_size": 16, "n_encoder_layers": 1}
    )
    built_sizes = []

    def tiny_backbone(settings):
        built_sizes.append(settings["hidden_size"])
        return build_backbone(BACKBONE)  # a whole ViT-B would take seconds

    monkeypatch.setattr("maskact_ros.policy.model.maskact.build_backbone", tiny_backbone)
    for name in ("dinov3_vits16", "dinov3_vitb16"):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(replace(config, vision_backbone=name, use_lora=False).to_dict()))
        init_checkpoint(path, tmp_path / name, robot)
        assert f"random weights of a {name}" in capsys.readouterr().out
    assert built_sizes == [384, 768]


def test_dino_model_dir_is_where_the_backbone_comes_from(make_spec, tmp_path, robot, capsys):
    (tmp_path / "dino").mkdir()
    (tmp_path / "dino" / "config.json").write_text(json.dumps(BACKBONE | {"num_hidden_layers": 3}))
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(replace(make_spec().config, dino_model_dir="dino").to_dict()))
    assert init_checkpoint(path, tmp_path / "out", robot).backbone["num_hidden_layers"] == 3
    assert "its config.json only" in capsys.readouterr().out


def test_no_parameter_is_left_without_a_test():
    assert set(PARAMETERS) == SHOWN | OF_THE_NODES | WITHOUT_ALTERNATIVE
