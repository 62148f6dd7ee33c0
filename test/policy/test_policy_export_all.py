"""Every kind of policy can be exported, and computes what it computes in torch."""

import itertools
import zlib

import pytest
import torch
from support.conversions import Conversions

from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.onnx import export as exporting
from maskact_ros.policy.onnx.export import export

pytestmark = pytest.mark.extended

SWITCHES = ("use_mask", "use_vae", "use_lora", "use_aux_head", "pre_norm")


@pytest.fixture
def converted(monkeypatch, tmp_path):
    """What torch converted; equal modules once."""
    conversions = Conversions(tmp_path)
    monkeypatch.setattr(exporting, "write_graph", conversions.write_graph)
    return conversions


def policy_with(spec) -> MaskACT:
    """Its weights are random, and of the same name the same in all."""
    policy = MaskACT(spec)
    for name, parameter in policy.named_parameters():
        numbers = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=numbers)
    return policy


@pytest.mark.timeout(600)  # an exporter of torch takes a second for a graph, however small the policy is
def test_every_combination_of_the_policys_parts_is_exported(make_spec, converted, tmp_path):
    shares = {}
    for values in itertools.product((False, True), repeat=len(SWITCHES)):
        switches = dict(zip(SWITCHES, values, strict=True))
        name = "+".join(switch for switch, on in switches.items() if on) or "none"
        policy = policy_with(make_spec(**switches, freeze_backbone=switches["use_lora"]))
        folder = save_checkpoint(tmp_path / name, policy).folder
        differences = export(folder, precision="fp32", dynamic=True).differences
        shares[name] = max(difference.largest / difference.tolerance for difference in differences.values())
    assert len(shares) == 32
    assert {name: share for name, share in shares.items() if share > 1.0} == {}
    # What runs on a robot differs by masks and the place of norms; LoRA is in the weights; training's parts are gone.
    assert sorted(graph for graph, _ in converted.files) == ["encoder"] * 2 + ["mask_head"] + ["planner"] * 4
