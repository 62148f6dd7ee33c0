"""The number of operations, against torch's own count of what the plain modules do."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from maskact_ros.policy.model.maskact import Perception, Planner
from maskact_ros.policy.model.operations import left_out, nominal


def counted(function) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        function()
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("activation", ["relu", "glu"])
@pytest.mark.parametrize("image_size", [48, 224])
@pytest.mark.parametrize("use_mask", [True, False])
def test_it_is_what_torch_counts(make_spec, activation, image_size, use_mask):
    spec = make_spec(
        use_mask=use_mask, image_size=image_size, feedforward_activation=activation, n_decoder_layers=2, use_vae=False
    )
    expected = nominal(spec)
    perception, planner = Perception(spec).eval().requires_grad_(False), Planner(spec).eval().requires_grad_(False)
    image = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
    features = perception.features(image)
    labels = torch.zeros(features.shape[:2], dtype=torch.int64) if use_mask else None
    assert counted(lambda: perception.features(image)) == pytest.approx(expected.encoder)
    # Resizing the logits is products of matrices, and not counted: in another form it would be none.
    side = image_size // 16
    resizing = spec.config.num_mask * 2 * image_size * side * (side + image_size) / 1e9 if use_mask else 0
    assert counted(lambda: perception.segment(features)) == pytest.approx(expected.mask_head + resizing)
    assert counted(lambda: planner(features, labels, torch.zeros(1, 3))) == pytest.approx(expected.act)
    assert expected.total == pytest.approx(expected.encoder + expected.mask_head + expected.act)


def test_patches_that_are_not_seen_are_not_counted(make_spec):
    spec = make_spec(image_size=224, use_vae=False, dropped_labels=[0])
    planner = Planner(spec).eval().requires_grad_(False)
    labels = torch.zeros(1, 196, dtype=torch.int64)
    labels[:, :50] = 1
    seen = counted(lambda: planner(torch.zeros(1, 196, 16), labels, torch.zeros(1, 3)))
    assert seen == pytest.approx(nominal(spec, patches_seen=50).act)


def test_less_is_left_out_than_there_is(make_spec):
    spec = make_spec(image_size=480)
    nominal_, saved = nominal(spec), left_out(spec)
    assert saved.encoder == 0
    assert 0 < saved.mask_head < nominal_.mask_head
    assert 0 < saved.act < nominal_.act
