"""The configuration: the specification's names, types and defaults, what is refused and how, and every round trip."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.specification import EXAMPLES, TABLE

from maskact_ros.core.config import PARAMETERS, ConfigError, MaskACTConfig
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.kinds import LoraConfig

MASKACT_YAML = Path(__file__).resolve().parents[2] / "config/maskact.yaml"

# Every parameter that can be other than by default is, where the others allow it.
UNUSUAL = {
    "chunk_size": 20,
    "n_action_steps": 10,
    "training_stage": "stage1",
    "mask_loss_weight": 0.0,
    "action_loss_weight": 2,
    "stage2_dino_lr_ratio": 0.5,
    "stage2_freeze_mask_head": True,
    "normalization_mapping": {"VISUAL": "IDENTITY", "ACTION": "MIN_MAX"},
    "vision_backbone": "dinov3_vits16",
    "freeze_backbone": False,
    "dino_model_dir": "models/dino",
    "use_lora": False,
    "lora_config": {"r": 4, "target_modules": ["q_proj"], "bias": "all"},
    "use_mask": True,
    "num_mask": 3,
    "mask_importance_weights": [0.0, 1.0, 5],
    "image_size": 224,
    "use_aux_head": True,
    "label_attention_rules": {"-1": ["0", "2"], "1": [1]},
    "pre_norm": True,
    "dim_model": 96,
    "n_heads": 6,
    "dim_feedforward": 64,
    "feedforward_activation": "gelu",
    "n_encoder_layers": 2,
    "n_decoder_layers": 2,
    "use_vae": False,
    "latent_dim": 8,
    "n_vae_encoder_layers": 1,
    "optimizer_lr": 3e-4,
    "optimizer_lr_backbone": 0,
    "optimizer_betas": [0.8, 0.99],
    "optimizer_weight_decay": 0,
    "temporal_ensemble_coeff": -0.01,
    "kl_weight": 1,
    "dropout": 0,
    "mask_head_channels": 32,
    "dropped_labels": [0],
    "position_in_tokens": True,
}


def plain(value):
    """A default as the specification writes it."""
    return list(value) if isinstance(value, tuple) else value


def uncommented_yaml() -> dict:
    """The section of `/**` in config/maskact.yaml, with its commented parameters in force."""
    lines = MASKACT_YAML.read_text(encoding="utf-8").splitlines()
    begin, end = lines.index("/**:"), lines.index("/**/camera_encoder:")
    section = [line.replace("    # ", "    ", 1) for line in lines[begin:end] if not line.strip().startswith("# --")]
    section = [line for line in section if not line.startswith("#")]
    return yaml.safe_load("\n".join(section))["/**"]["ros__parameters"]


def flat(values: dict, prefix: str = "") -> dict:
    """Nested parameters as ROS sees them."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# -- The specification


def test_the_specification_was_read():
    assert len(TABLE) == 35
    assert len(EXAMPLES) == 3


def test_the_class_has_the_tables_parameters_in_its_order_and_five_documented_extras():
    assert [p.name for p in PARAMETERS.values() if not p.extra] == list(TABLE)
    assert [p.name for p in PARAMETERS.values() if p.extra] == [
        "kl_weight",
        "dropout",
        "mask_head_channels",
        "dropped_labels",
        "position_in_tokens",
    ]
    assert all(p.description for p in PARAMETERS.values())


@pytest.mark.parametrize("name", TABLE)
def test_type_and_default_are_the_tables(name):
    spec_type, default = TABLE[name]
    assert PARAMETERS[name].type == spec_type
    assert PARAMETERS[name].default == default
    effective = getattr(MaskACTConfig(), name)
    assert plain(effective) == default
    assert type(plain(effective)) is type(default)


@pytest.mark.parametrize("example", EXAMPLES, ids=["stage1", "stage2", "action_only"])
def test_the_specifications_examples_load_unmodified(example, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(example), encoding="utf-8")
    config = MaskACTConfig.from_json(file)
    for name, value in example.items():
        assert name == "type" or getattr(config, name) == value
    assert all(getattr(config, name) == getattr(MaskACTConfig(), name) for name in PARAMETERS if name not in example)


def test_the_specifications_rules_load():
    config = MaskACTConfig(label_attention_rules={"0": ["1"], "1": ["0", "2"]})
    assert config.label_attention_rules == {0: (1,), 1: (0, 2)}


# -- config/maskact.yaml


def test_the_yaml_lists_every_parameter_in_order_with_type_and_description():
    lines = [line.strip() for line in MASKACT_YAML.read_text(encoding="utf-8").splitlines()]
    documented = {}
    for line in lines:
        name, colon, rest = line.removeprefix("# ").partition(":")
        if line.startswith("# ") and colon and name in PARAMETERS:
            documented[name] = rest.partition("#")[2].strip()
    assert documented == {p.name: f"{p.type}: {p.description}" for p in PARAMETERS.values()}


def test_the_yaml_uncommented_holds_exactly_the_default_parameters():
    given = flat(uncommented_yaml())
    assert given.pop("use_sim_time") is False
    assert given == MaskACTConfig().to_parameters()
    kinds = {name: type(value) for name, value in given.items()}
    assert kinds == {name: type(value) for name, value in MaskACTConfig().to_parameters().items()}


def test_the_yaml_uncommented_is_the_default_configuration():
    given = flat(uncommented_yaml())
    del given["use_sim_time"]
    assert MaskACTConfig.from_parameters(given) == MaskACTConfig()


# -- Round trips


def test_the_unusual_values_differ_from_the_defaults_everywhere():
    config = MaskACTConfig.from_dict(UNUSUAL)
    same = [name for name in PARAMETERS if getattr(config, name) == getattr(MaskACTConfig(), name)]
    assert same == ["n_obs_steps", "use_mask"]


@pytest.mark.parametrize("values", [{}, UNUSUAL, *EXAMPLES], ids=["default", "unusual", "stage1", "stage2", "actions"])
def test_json_config_parameters_and_yaml_round_trip(values):
    config = MaskACTConfig.from_dict(values)
    assert MaskACTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    parameters = config.to_parameters()
    assert MaskACTConfig.from_parameters(parameters) == config
    assert MaskACTConfig.from_parameters(yaml.safe_load(yaml.safe_dump(parameters))) == config


def test_a_dictionary_given_as_text_or_number_keys_is_the_same():
    assert MaskACTConfig(label_attention_rules={"-1": ["0"]}) == MaskACTConfig(label_attention_rules={-1: [0]})


def test_no_rules_and_empty_rules_are_the_same():
    assert MaskACTConfig(label_attention_rules={}) == MaskACTConfig(label_attention_rules=None)


def test_what_a_dictionary_leaves_out_is_as_by_default():
    assert MaskACTConfig.from_dict({"lora_config": {"r": 8}}).lora == replace(LoraConfig(), r=8)
    mapping = MaskACTConfig.from_dict({"normalization_mapping": {"STATE": "MIN_MAX"}}).normalization_mapping
    assert mapping == {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"}


def test_the_default_adapter_means_none_after_a_round_trip_through_parameters():
    spelled_out = MaskACTConfig(lora_config=LoraConfig())
    assert MaskACTConfig.from_parameters(spelled_out.to_parameters()) == MaskACTConfig()


# -- What is refused, in one sentence

REFUSED = [
    ({"chunk_sise": 5}, "unknown parameter chunk_sise (value 5)", "did you mean chunk_size?"),
    ({"zzzzzzzz": 1}, "unknown parameter zzzzzzzz (value 1)", "allowed: n_obs_steps"),
    ({"type": "act"}, 'type is "act"', "mask_act"),
    ({"chunk_size": "many"}, 'chunk_size is "many"', "an integer >= 1"),
    ({"chunk_size": 1.5}, "chunk_size is 1.5", "an integer >= 1"),
    ({"chunk_size": True}, "chunk_size is true", "an integer >= 1"),
    ({"chunk_size": None}, "chunk_size is null", "an integer >= 1"),
    ({"chunk_size": 0}, "chunk_size is 0", "an integer >= 1"),
    ({"n_obs_steps": 2}, "n_obs_steps is 2", "1, the only window"),
    ({"chunk_size": 50}, "n_action_steps is 100", "at most chunk_size, which is 50"),
    ({"n_action_steps": 101}, "n_action_steps is 101", "at most chunk_size, which is 100"),
    ({"training_stage": "stage3"}, 'training_stage is "stage3"', "one of stage1, stage2"),
    ({"mask_loss_weight": -0.1}, "mask_loss_weight is -0.1", "a number >= 0"),
    ({"mask_loss_weight": float("nan")}, "mask_loss_weight is NaN", "a number >= 0"),
    ({"optimizer_lr": "1e-4"}, 'optimizer_lr is "1e-4"', "YAML wants 1.0e-4"),
    ({"optimizer_lr": 0}, "optimizer_lr is 0", "a number > 0"),
    ({"optimizer_lr": 10**400}, "optimizer_lr is 1000", "a number > 0"),
    ({"stage2_freeze_mask_head": 1}, "stage2_freeze_mask_head is 1", "true or false"),
    ({"use_mask": "yes"}, 'use_mask is "yes"', "true or false"),
    ({"normalization_mapping": {"STATE": "MAX"}}, 'normalization_mapping is {"STATE": "MAX"}', "MEAN_STD, MIN_MAX"),
    ({"normalization_mapping": {"TOUCH": "IDENTITY"}}, "normalization_mapping is", "VISUAL, STATE, ACTION"),
    ({"normalization_mapping": "MEAN_STD"}, 'normalization_mapping is "MEAN_STD"', "VISUAL, STATE, ACTION"),
    ({"vision_backbone": "resnet18"}, 'vision_backbone is "resnet18"', "dinov3_vits16, dinov3_vitb16, dinov3_vitl16"),
    ({"dino_model_dir": ""}, 'dino_model_dir is ""', "a folder's path"),
    ({"lora_config": {"rank": 3}}, 'lora_config is {"rank": 3}', "r (an integer >= 1 and"),
    ({"lora_config": {"r": 0}}, 'lora_config is {"r": 0}', "r (an integer >= 1 and"),
    ({"lora_config": {"target_modules": []}}, "lora_config is", "a list of module names"),
    ({"lora_config": {"r": 10**12}}, 'lora_config is {"r": 1000000000000}', "and <= 16384"),
    ({"lora_config": 16}, "lora_config is 16", "or none (null in JSON)"),
    ({"lora_config": "none"}, 'lora_config is "none"', "or none (null in JSON)"),
    ({"label_attention_rules": "none"}, 'label_attention_rules is "none"', "or none (null in JSON)"),
    ({"chunk_size": 10**15}, "chunk_size is 1000000000000000", "and <= 10000"),
    ({"image_size": 16 * 10**6}, "image_size is 16000000", "and <= 8192"),
    ({"dim_model": 4 * 10**9}, "dim_model is 4000000000", "and <= 16384"),
    ({"dim_feedforward": 10**15}, "dim_feedforward is", "and <= 65536"),
    ({"latent_dim": 10**15}, "latent_dim is", "and <= 16384"),
    ({"n_encoder_layers": 10**6}, "n_encoder_layers is 1000000", "and <= 200"),
    ({"num_mask": 1}, "num_mask is 1", "an integer >= 2"),
    ({"num_mask": 128}, "num_mask is 128", "<= 127"),
    ({"mask_importance_weights": [1, 1, 1]}, "mask_importance_weights is [1.0, 1.0, 1.0]", "num_mask, which is 4"),
    ({"mask_importance_weights": [1, 1, 1, -1]}, "mask_importance_weights is", "one number >= 0"),
    ({"mask_importance_weights": [0, 0, 0, 0]}, "mask_importance_weights is [0, 0, 0, 0]", "one > 0 among them"),
    ({"dropped_labels": [0, 4]}, "dropped_labels is [0, 4]", "num_mask is 4"),
    ({"dropped_labels": [0], "use_mask": False}, "dropped_labels is [0]", "where use_mask is true"),
    ({"dropped_labels": []}, "dropped_labels is []", "a non-empty list of mask labels"),
    ({"dropped_labels": [-1]}, "dropped_labels is [-1]", "a non-empty list of mask labels"),
    ({"mask_importance_weights": []}, "mask_importance_weights is []", "one number >= 0"),
    ({"image_size": 100}, "image_size is 100", "a multiple of 16"),
    ({"label_attention_rules": {"4": [0]}}, "label_attention_rules names the label 4", "allowed: 0 to 3"),
    ({"label_attention_rules": {"0": [4]}}, "label_attention_rules names the label 4", "the rule of 0"),
    ({"label_attention_rules": {"-2": [0]}}, "label_attention_rules names the label -2", "-1 for latent and state"),
    ({"label_attention_rules": {"arm": [0]}}, 'label_attention_rules is {"arm": [0]}', "a non-empty list of labels"),
    ({"label_attention_rules": {"0": []}}, 'label_attention_rules is {"0": []}', "a non-empty list of labels"),
    ({"label_attention_rules": {"0": 1}}, 'label_attention_rules is {"0": 1}', "a non-empty list of labels"),
    ({"label_attention_rules": {"0": [0.5]}}, 'label_attention_rules is {"0": [0.5]}', "a non-empty list of labels"),
    ({"dim_model": 510}, "dim_model is 510", "a multiple of 4"),
    ({"dim_model": 100}, "dim_model is 100", "a multiple of n_heads, which is 8"),
    ({"feedforward_activation": "tanh"}, 'feedforward_activation is "tanh"', "one of relu, gelu, glu"),
    ({"optimizer_betas": [0.9]}, "optimizer_betas is [0.9]", "two numbers >= 0 and < 1"),
    ({"optimizer_betas": [0.9, 1.0]}, "optimizer_betas is [0.9, 1.0]", "two numbers >= 0 and < 1"),
    ({"temporal_ensemble_coeff": float("inf")}, "temporal_ensemble_coeff is Infinity", "a number >= -100 and <= 100"),
    ({"temporal_ensemble_coeff": -1.7e308}, "temporal_ensemble_coeff is -1.7e+308", "a number >= -100 and <= 100"),
    ({"dropout": 1}, "dropout is 1", "a number >= 0 and < 1"),
]


@pytest.mark.parametrize(("values", "named", "allowed"), REFUSED, ids=[named for _, named, _ in REFUSED])
def test_a_wrong_value_gives_one_sentence(values, named, allowed):
    with pytest.raises(ConfigError) as caught:
        MaskACTConfig.from_dict(values)
    sentence = str(caught.value)
    assert sentence.startswith(named)
    assert allowed in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("values", [None, 3, [], "text"])
def test_anything_but_an_object_is_refused(values):
    with pytest.raises(ConfigError, match=r"the configuration is .*; allowed: a JSON object"):
        MaskACTConfig.from_dict(values)


def test_a_value_beside_entries_of_the_same_dictionary_is_refused():
    with pytest.raises(ConfigError, match="lora_config is null; allowed: either a value or entries such as lora_con"):
        MaskACTConfig.from_parameters({"lora_config": "none", "lora_config.r": 8})


@pytest.mark.parametrize("text", ["{", '{"chunk_size": ' + "1" * 5000 + "}", '{"chunk_size": 0}'])
def test_a_wrong_file_is_named(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MaskACTError, match=r"config\.json: "):
        MaskACTConfig.from_json(file)


def test_an_absent_or_binary_file_is_named(tmp_path):
    with pytest.raises(MaskACTError, match=r"absent\.json: cannot be read \(No such file or directory\)"):
        MaskACTConfig.from_json(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MaskACTError, match=r"binary\.json: not JSON"):
        MaskACTConfig.from_json(tmp_path / "binary.json")


def random_json(pick: random.Random, depth: int = 0):
    scalars = [
        None,
        True,
        0,
        -1,
        1,
        16,
        10**400,
        0.5,
        -2.5,
        float("nan"),
        float("inf"),
        "",
        "none",
        "0",
        "-1",
        "q_proj",
    ]
    kind = pick.randrange(4 if depth < 3 else 2)
    if kind < 2:
        return pick.choice(scalars)
    items = [random_json(pick, depth + 1) for _ in range(pick.randrange(4))]
    if kind == 2:
        return items
    return {pick.choice(["r", "bias", "STATE", "0", "-1", "9", "x", ""]): item for item in items}


def test_random_json_is_a_configuration_or_one_sentence():
    pick = random.Random(0)
    names = [*PARAMETERS, "type", "nonsense", "lora_config.r", "label_attention_rules.-1", "chunk_size.x", ".", ""]
    accepted = longest = 0
    for _ in range(1500):
        values = {name: random_json(pick) for name in pick.sample(names, pick.randrange(1, 4))}
        for load in (MaskACTConfig.from_dict, MaskACTConfig.from_parameters):
            try:
                config = load(values)
            except ConfigError as error:
                longest = max(longest, len(str(error)))
            else:
                accepted += 1
                assert MaskACTConfig.from_dict(config.to_dict()) == config
                assert MaskACTConfig.from_parameters(config.to_parameters()).lora == config.lora
    assert accepted > 50
    assert 100 < longest < 2000
