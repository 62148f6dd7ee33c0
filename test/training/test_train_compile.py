"""Layers of one kind are compiled once, not once each."""

import pytest
import torch
from support import small_run
from torch._dynamo.testing import CompileCounter

from maskact_ros.core.checkpoint import PolicySpec
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.model.maskact import MaskACT, TrainingBatch
from maskact_ros.training.run.devices import compile_transformers


@pytest.mark.extended
def test_layers_of_a_kind_are_compiled_once(monkeypatch):
    config = MaskACTConfig.from_dict(
        small_run.TINY | {"n_encoder_layers": 3, "n_vae_encoder_layers": 2, "dropout": 0.1}
    )
    spec = PolicySpec(
        config=config,
        robot=small_run.ROBOT,
        statistics=Statistics.from_limits(small_run.ROBOT),
        backbone=small_run.BACKBONE | {"num_hidden_layers": 3},
        mask_classes=small_run.CLASSES,
    )
    model = MaskACT(spec).train()
    names = list(model.state_dict())
    compiler, compiling = CompileCounter(), torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **rest: compiling(layer, backend=compiler, **rest))
    compile_transformers(model)
    assert list(model.state_dict()) == names
    batch = TrainingBatch(
        images=torch.zeros(2, 48, 48, 3, dtype=torch.uint8),
        masks=torch.zeros(2, 48, 48, dtype=torch.int64),
        state=torch.zeros(2, 2),
        actions=torch.zeros(2, 4, 2),
        action_is_pad=torch.zeros(2, 4, dtype=torch.bool),
    )
    for _ in range(2):
        model(batch).total.backward()
    # DINOv3's, the encoder's, the decoder's, and the VAE's, whose last one computes one token only.
    assert compiler.frame_count == 5
