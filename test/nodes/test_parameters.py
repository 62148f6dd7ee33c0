"""The configuration as a node's parameters: dumped and read back by rclpy itself, and what a node refuses."""

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.ros.params import NodeParameter, declare, declare_spec, refuse_unknown
from maskact_ros.tools.isolation import IsolatedDomain

CHANGED = MaskACTConfig.from_dict(
    {
        "chunk_size": 20,
        "n_action_steps": 10,
        "num_mask": 3,
        "mask_importance_weights": [0.5, 1.0, 4.0],
        "label_attention_rules": {"-1": ["0", "2"], "1": ["1"]},
        "normalization_mapping": {"VISUAL": "IDENTITY"},
        "lora_config": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "all"},
        "temporal_ensemble_coeff": 0.01,
        "optimizer_lr": 1e-5,
    }
)


@pytest.fixture(scope="module")
def context():
    domain = IsolatedDomain()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in domain.environment.items():
            environment.setenv(name, value)
        context = Context()
        rclpy.init(context=context)
        yield context
        rclpy.shutdown(context=context)
    domain.close()


@pytest.fixture
def start(context, tmp_path):
    """Starts a node with the text of a parameter file."""
    nodes = []

    def started(text: str) -> Node:
        file = tmp_path / "params.yaml"
        file.write_text(text, encoding="utf-8")
        node = Node("planner", context=context, cli_args=["--ros-args", "--params-file", str(file)])
        nodes.append(node)
        return node

    yield started
    for node in nodes:
        node.destroy_node()


def params_file(flat: dict, *, node: str = "/**") -> str:
    """A parameter file with nested dictionaries, as `ros2 param dump` writes it."""
    nested: dict = {}
    for name, value in flat.items():
        group, _, key = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[key] = value
    return yaml.safe_dump({node: {"ros__parameters": nested}})


def given(**parameters) -> str:
    return params_file({name.replace("__", "."): value for name, value in parameters.items()})


@pytest.mark.parametrize("config", [MaskACTConfig(), CHANGED], ids=["default", "changed"])
def test_a_dumped_configuration_read_by_a_node_is_the_same(start, config):
    first = start("")
    assert declare_spec(first, config) == config
    listed = first.list_parameters([], 0).names
    dumped = {}
    for name in listed:
        if name.partition(".")[0] in config.to_dict():
            value = first.get_parameter(name).value
            dumped[name] = list(value) if hasattr(value, "tolist") else value
    assert dumped == config.to_parameters()
    second = start(params_file(dumped, node="/planner"))
    assert declare_spec(second, config) == config
    refuse_unknown(second)


def test_what_may_change_overrides_the_checkpoint_and_what_is_left_out_is_as_in_it(start):
    rules = {"label_attention_rules.-1": ["0", "1"], "label_attention_rules.1": "none"}
    changes = {"temporal_ensemble_coeff": "none", "n_action_steps": 5, "mask_importance_weights": [1.0, 2.0, 3.0]}
    config = declare_spec(start(params_file(rules | changes)), CHANGED)
    assert config.label_attention_rules == {-1: (0, 1)}
    assert config.temporal_ensemble_coeff is None
    assert config.n_action_steps == 5
    assert config.mask_importance_weights == (1.0, 2.0, 3.0)
    assert config.lora_config == CHANGED.lora_config
    assert config.chunk_size == CHANGED.chunk_size


@pytest.mark.parametrize("key", ['"-1"', "'-1'", "-1"])
def test_the_label_of_latent_and_state_may_be_written_with_and_without_quotes(start, key):
    text = f"/**:\n  ros__parameters:\n    label_attention_rules:\n      {key}: [0, 1]\n"
    assert declare_spec(start(text), MaskACTConfig()).label_attention_rules == {-1: (0, 1)}


@pytest.mark.parametrize(
    ("text", "named", "allowed"),
    [
        (given(chunk_size=50), "chunk_size is 50", "trained with 20"),
        (given(n_action_steps=21), "n_action_steps is 21", "at most chunk_size, which is 20"),
        (given(n_action_steps="ten"), "n_action_steps is 'ten'", "an integer"),
        (given(mask_loss_weight=1), "mask_loss_weight is 1", "a number with a decimal point"),
        (given(use_mask="on"), "use_mask is 'on'", "true or false"),
        (given(lora_config__r=8), "lora_config.r is 8", "trained with 4"),
        (given(lora_config__target_modules=[1, 2]), "lora_config.target_modules is [1, 2]", "a list of texts"),
        (given(optimizer_betas=[0, 1]), "optimizer_betas is [0, 1]", "a list of numbers with a decimal point"),
        (given(normalization_mapping__STATE="IDENTITY"), "normalization_mapping.STATE is", "trained with 'MEAN_STD'"),
        (
            given(temporal_ensemble_coeff="off"),
            'temporal_ensemble_coeff is "off"',
            "a number >= -100 and <= 100, or none",
        ),
        (given(mask_importance_weights=[1.0, 2.0]), "mask_importance_weights is [1.0, 2.0]", "num_mask, which is 3"),
        (given(label_attention_rules__0=["3"]), "label_attention_rules names the label 3", "0 to 2"),
        (given(label_attention_rules__3=["0"]), "unknown parameter label_attention_rules.3", "did you mean"),
        (given(chunk_sise=50), "unknown parameter chunk_sise (value 50)", "did you mean chunk_size?"),
        (given(rate="fast"), "rate is 'fast'", "an integer"),
        (given(rate=300), "rate is 300", "1 to 200"),
        (given(speed=0.0), "speed is 0.0", "0.5 to 2"),
        (given(speed=float("nan")), "speed is nan", "0.5 to 2"),
        (given(speed="fast"), "speed is 'fast'", "a number with a decimal point"),
    ],
    ids=lambda value: None if value.startswith("/**") else value,
)
def test_a_wrong_parameter_gives_one_sentence(start, text, named, allowed):
    node = start(text)

    def configure():
        declare(node, [NodeParameter("rate", 100, "", 1, 200), NodeParameter("speed", 1.0, "", 0.5, 2.0)])
        declare_spec(node, CHANGED)
        refuse_unknown(node)

    with pytest.raises(MaskACTError) as caught:
        configure()
    assert str(caught.value).startswith(named)
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)
