"""The encoder: what is frozen, what adapts, and where its weights come from."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.reference_checkpoint import BACKBONE

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.kinds import LoraConfig
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.backbone import build_backbone, canonical_name, preset, read_settings, read_weights
from maskact_ros.policy.model.encoder import VisionEncoder

RESCALED = BACKBONE | {"pos_embed_rescale": 2.0}


def make_encoder(*, frozen=True, lora=None, settings=RESCALED):
    torch.manual_seed(0)
    encoder = VisionEncoder(backbone=build_backbone(settings), dim_model=16, frozen=frozen, lora=lora)
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:  # zero at the start: the adapter would have no effect yet
            torch.nn.init.normal_(parameter, std=0.1)
    return encoder


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))


def test_features_are_the_patches_after_class_and_register_tokens(images):
    encoder = make_encoder().eval()
    tokens = encoder.backbone(pixel_values=images).last_hidden_state
    assert tokens.shape == (2, 1 + 4 + 9, 48)
    torch.testing.assert_close(encoder(images), encoder.projection(tokens[:, 5:]))


def test_a_frozen_backbone_is_the_same_function_in_training_mode(images):
    encoder = make_encoder(frozen=True)
    torch.testing.assert_close(encoder.train()(images), encoder.eval()(images))


def test_an_unfrozen_backbone_is_augmented_in_training_mode(images):
    encoder = make_encoder(frozen=False)
    assert not torch.allclose(encoder.train()(images), encoder.eval()(images))


def test_the_dropout_of_adapters_is_active_in_a_frozen_backbone(images):
    encoder = make_encoder(frozen=True, lora=LoraConfig(lora_dropout=0.5))
    encoder.train()
    assert not torch.allclose(encoder(images), encoder(images))
    encoder.eval()
    torch.testing.assert_close(encoder(images), encoder(images))


def test_lora_scales_by_the_root_of_its_rank(images):
    encoder = make_encoder(lora=LoraConfig(r=4, lora_alpha=6, target_modules=("up_proj",))).eval()
    layers = {canonical_name(name): module for name, module in encoder.backbone.named_modules()}
    layer = layers["layer.0.mlp.up_proj"]
    tokens = torch.randn(3, 48)
    adapted = tokens @ layer.lora_A.default.weight.T @ layer.lora_B.default.weight.T
    torch.testing.assert_close(layer(tokens), layer.base_layer(tokens) + 6 / 4**0.5 * adapted)


def test_merging_lora_keeps_the_features_and_leaves_no_adapter(images):
    encoder = make_encoder(lora=LoraConfig()).eval()
    before = encoder(images)
    encoder.merge_lora()
    torch.testing.assert_close(encoder(images), before, atol=1e-5, rtol=1e-5)
    assert {canonical_name(name) for name in encoder.backbone.state_dict()} == {
        canonical_name(name) for name in build_backbone(BACKBONE).state_dict()
    }


def test_unknown_lora_targets_are_one_sentence():
    with pytest.raises(PolicyError, match=r"lora_config.target_modules is \['elbow'\]; allowed"):
        make_encoder(lora=LoraConfig(target_modules=("elbow",)))


@pytest.mark.parametrize(
    "name",
    [
        "layer.0.norm1.weight",
        "model.layer.0.norm1.weight",
        "base_model.model.layer.0.norm1.weight",
        "base_model.model.model.layer.0.norm1.weight",
    ],
)
def test_names_of_both_transformers_releases_are_one(name):
    assert canonical_name(name) == "layer.0.norm1.weight"
    assert canonical_name(f"perception.encoder.backbone.{name}") == "perception.encoder.backbone.layer.0.norm1.weight"


@pytest.mark.parametrize(
    ("size", "millions"), [("dinov3_vits16", 21.6), ("dinov3_vitb16", 85.7), ("dinov3_vitl16", 303.1)]
)
def test_presets_have_the_published_sizes(size, millions):
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_backbone(preset(size)).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.1)


def test_sharded_weights_are_read_whole(tmp_path):
    weights = {name: tensor.clone() for name, tensor in build_backbone(BACKBONE).state_dict().items()}
    names = sorted(weights)
    shards = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    read = read_weights(tmp_path)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "model_type is None; allowed: 'dinov3_vit'"),
        ('{"model_type": "dinov3_convnext"}', "model_type is 'dinov3_convnext'; allowed: 'dinov3_vit'"),
        ('{"model_type": "dinov3_vit", "patch_size": 14}', "patch_size is 14; allowed: 16"),
    ],
)
def test_a_folder_without_a_usable_configuration_is_one_sentence(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(MaskACTError) as error:
        read_settings(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; allowed: an integer >= 1"),
        ({"num_register_tokens": -5}, "num_register_tokens is -5; allowed: an integer >= 0"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'; allowed: an integer >= 1"),
        ({"hidden_size": 10**10}, "hidden_size is 10000000000; allowed: a number up to 1e+09"),
        ({"hidden_size": 50}, "hidden_size is 50; allowed: a multiple of 4 for each of its"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps is inf; allowed: a number up to 1e+09"),
        ({"rope_theta": float("nan")}, "rope_theta is nan"),
    ],
)
def test_settings_that_make_no_vision_transformer_are_one_sentence(changes, words):
    with pytest.raises(PolicyError) as error:
        build_backbone(BACKBONE | changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("[]", "not a JSON object"),
        ("{}", "does not say which file each tensor is in"),
        ('{"weight_map": 5}', "does not say which file"),
        ('{"weight_map": {}}', "does not say which file"),
        ('{"weight_map": {"a": 5}}', "'a' is in 5; allowed: a file beside the index"),
        ('{"weight_map": {"a": []}}', "'a' is in []"),
        ('{"weight_map": {"a": "../x"}}', "'a' is in '../x'"),
        ('{"weight_map": {"a": "' + "a" * 300 + '"}}', "cannot be read (File name too long)"),
    ],
)
def test_an_index_of_no_files_is_one_sentence(tmp_path, index, words):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(MaskACTError) as error:
        read_weights(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_safetensors_are_one_sentence(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(PolicyError, match="cannot be read as safetensors"):
        read_weights(tmp_path)
