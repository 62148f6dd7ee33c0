"""Our dropout is PyTorch's, but for how its numbers are drawn."""

import pytest
import torch

from maskact_ros.policy.model.dropout import Dropout
from maskact_ros.policy.model.transformer import Encoder, LayerSettings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_so_many_are_dropped_and_the_others_are_scaled(dtype, probability):
    torch.manual_seed(0)
    tokens = torch.ones(7, 301, 331, dtype=dtype, requires_grad=True)
    dropped = Dropout(probability)(tokens)
    dropped.sum().backward()
    assert dropped.dtype == dtype
    assert torch.equal(tokens.grad == 0, dropped == 0)  # the gradient goes where the value went
    assert dropped.detach().unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)], rel=1e-2)
    assert float((dropped == 0).float().mean()) == pytest.approx(probability, abs=3e-3)
    rows = dropped.detach().float().flatten(0, 1)
    assert all(float(rows.mean(dim=dim).std()) < 0.1 for dim in (0, 1))  # no row and no column is spared


def test_the_seed_decides():
    tokens = torch.ones(3, 5, 33)
    torch.manual_seed(1)
    first = Dropout(0.3)(tokens)
    assert not torch.equal(first, Dropout(0.3)(tokens))
    torch.manual_seed(1)
    assert torch.equal(first, Dropout(0.3)(tokens))


@pytest.mark.parametrize("dropout", [Dropout(0.3).eval(), Dropout(0.0)], ids=["evaluation", "probability 0"])
def test_nothing_is_dropped_where_nothing_is_to_be(dropout):
    tokens = torch.randn(2, 3, 4)
    assert torch.equal(dropout(tokens), tokens)


def test_all_is_dropped_where_all_is_to_be():
    assert not Dropout(1.0)(torch.randn(2, 3, 4)).any()


@pytest.mark.parametrize("pre_norm", [False, True])
def test_an_encoder_that_only_the_first_token_is_wanted_of_gives_the_one_that_it_would_have_given(pre_norm):
    torch.manual_seed(0)
    sizes = {"dim_model": 16, "n_heads": 2, "dim_feedforward": 24, "activation": "relu", "dropout": 0.1}
    encoder = Encoder(LayerSettings(pre_norm=pre_norm, **sizes), 2).eval()
    tokens, position = torch.randn(3, 7, 16), torch.randn(7, 16)
    allowed = torch.rand(3, 1, 7) > 0.3
    whole = encoder(tokens, position, allowed)
    torch.testing.assert_close(encoder(tokens, position, allowed, wanted=1), whole[:, :1])
