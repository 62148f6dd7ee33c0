"""The mask head's convolutions, against torch's own."""

import pytest
import torch
from torch import nn

from maskact_ros.policy.model.mask_head import AtrousConv2d


@pytest.mark.parametrize("dilation", [1, 6, 12, 18])
@pytest.mark.parametrize("side", [3, 6, 7, 12, 13, 19])
def test_leaving_out_what_meets_the_padding_changes_no_value_and_no_gradient(side, dilation):
    torch.manual_seed(0)
    settings = {"padding": dilation, "dilation": dilation, "bias": False}
    ours, plain = AtrousConv2d(4, 5, 3, **settings), nn.Conv2d(4, 5, 3, **settings)
    plain.load_state_dict(ours.state_dict())
    grid = torch.randn(2, 4, side, side, requires_grad=True)
    weight = torch.randn(2, 5, side, side)
    found, expected = ours(grid), plain(grid)
    torch.testing.assert_close(found, expected)
    for parameter, other in ((ours.weight, plain.weight), (grid, grid)):
        gradient = torch.autograd.grad((found * weight).sum(), parameter, retain_graph=True)
        wanted = torch.autograd.grad((expected * weight).sum(), other, retain_graph=True)
        torch.testing.assert_close(gradient, wanted)
