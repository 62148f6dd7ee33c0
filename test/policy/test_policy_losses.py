"""The losses of both stages: what counts, what does not, and where gradients go."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.act import Latent
from maskact_ros.policy.model.losses import AUXILIARY_WEIGHT, action_loss, kl_divergence, mask_loss
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.optimizer import build_optimizer


def losses(spec, batch):
    torch.manual_seed(0)
    model = MaskACT(spec)
    torch.manual_seed(1)  # of the latent's sample
    return model, model.train()(batch)


def has_gradient(module):
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


def test_what_stands_in_padding_changes_no_loss(make_spec, batch):
    actions = batch.actions.clone()
    actions[batch.action_is_pad] = 1e3
    _, padded = losses(make_spec(), replace(batch, actions=actions))
    _, plain = losses(make_spec(), batch)
    assert padded.named() == pytest.approx(plain.named())


def test_the_action_loss_is_the_mean_over_actions_that_are_not_padding():
    predicted, actions = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]]), torch.zeros(1, 2, 2)
    assert float(action_loss(predicted, actions, torch.tensor([[False, True]]))) == 1.5


def test_the_divergence_is_torchs():
    latent = Latent(torch.randn(4, 3), torch.randn(4, 3))
    exact = torch_kl(Normal(latent.mean, (latent.log_variance / 2).exp()), Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(kl_divergence(latent), exact)


def test_the_mask_loss_is_small_for_the_right_classes_only():
    masks = torch.randint(0, 3, (1, 8, 8))
    right = 20.0 * torch.nn.functional.one_hot(masks, 3).permute(0, 3, 1, 2)
    assert mask_loss(right, masks) < 1e-6
    assert mask_loss(right, (masks + 1) % 3) > 10


@pytest.mark.parametrize("label", [3, 255])
def test_a_class_that_the_policy_does_not_have_is_named(make_spec, batch, label):
    masks = batch.masks.clone()
    masks[1, 5, 5] = label
    with pytest.raises(PolicyError, match=f"the class {label}; allowed: 0 to 2, as num_mask is 3"):
        losses(make_spec(use_aux_head=True), replace(batch, masks=masks.to(torch.uint8)))


def test_stage_2_adds_its_components_by_their_weights(make_spec, batch):
    spec = make_spec(use_aux_head=True, mask_loss_weight=0.2, action_loss_weight=3.0, kl_weight=7.0)
    _, result = losses(spec, batch)
    named = result.named()
    masks = named["mask"] + AUXILIARY_WEIGHT * named["auxiliary_mask"]
    assert named["total"] == pytest.approx(3.0 * (named["action"] + 7.0 * named["kl"]) + 0.2 * masks, rel=1e-5)


def test_stage_1_trains_the_mask_only(make_spec, batch):
    model, result = losses(make_spec(training_stage="stage1"), batch)
    assert result.named() == {"total": pytest.approx(result.mask.item()), "mask": pytest.approx(result.mask.item())}
    result.total.backward()
    assert has_gradient(model.perception.encoder)
    assert has_gradient(model.perception.mask_head)
    assert not has_gradient(model.planner)


def test_stage_1_needs_neither_state_nor_actions(make_spec, batch):
    _, result = losses(make_spec(training_stage="stage1"), replace(batch, state=None, actions=None, action_is_pad=None))
    assert torch.isfinite(result.total)


def test_stage_2_trains_everything(make_spec, batch):
    model, result = losses(make_spec(use_aux_head=True), batch)
    result.total.backward()
    parts = (
        model.perception.encoder.backbone,
        model.perception.encoder.projection,
        model.perception.mask_head,
        model.perception.auxiliary_head,
        model.planner.act.vae,
        model.planner.act.encoder,
        model.planner.act.decoder,
    )
    assert all(has_gradient(part) for part in parts)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_auxiliary_head_is_trained(make_spec, batch, stage):
    model, result = losses(make_spec(use_aux_head=True, training_stage=stage), batch)
    (gradient,) = torch.autograd.grad(result.total, [model.perception.auxiliary_head.layers[0].weight])
    assert gradient.abs().sum() > 0
    assert result.total.item() != pytest.approx(losses(make_spec(training_stage=stage), batch)[1].total.item())


def test_without_masks_there_is_only_the_action_to_learn(make_spec, batch):
    _, result = losses(make_spec(use_mask=False), replace(batch, masks=None))
    assert set(result.named()) == {"total", "action", "kl"}


def test_a_stage_without_what_it_needs_is_one_sentence(make_spec, batch):
    with pytest.raises(PolicyError, match="stage1, which trains the masks only"):
        losses(make_spec(training_stage="stage1", use_mask=False), batch)
    with pytest.raises(PolicyError, match="stage1, which trains the masks only"):
        losses(make_spec(training_stage="stage1"), replace(batch, masks=None))
    with pytest.raises(PolicyError, match="stage2, which needs state"):
        losses(make_spec(), replace(batch, actions=None))


def test_a_batch_of_one_picture_is_one_sentence(make_spec, batch):
    with pytest.raises(PolicyError, match="1 picture; allowed: at least 2"):
        losses(make_spec(), replace(batch, images=batch.images[:1]))
    given = {name: tensor for name in batch.__dataclass_fields__ if (tensor := getattr(batch, name)) is not None}
    one = replace(batch, **{name: tensor[:1] for name, tensor in given.items()})
    assert torch.isfinite(losses(make_spec(stage2_freeze_mask_head=True), one)[1].total)


def test_the_held_out_loss_is_that_of_the_latent_on_the_robot(make_spec, batch):
    model = MaskACT(make_spec()).eval()
    with torch.no_grad():
        first, second = model(batch).named(), model(batch).named()
        labels = model.encode(batch.images).segmentation.patch_labels
        predicted = model.act(model.encode(batch.images).features, labels, batch.state)
        normalised = [model.planner.action_normalizer(actions) for actions in (predicted, batch.actions)]
    assert first == second
    assert "kl" not in first
    assert first["action"] == pytest.approx(action_loss(*normalised, batch.action_is_pad).item(), rel=1e-5)


def test_a_few_steps_lower_the_loss(make_spec, batch):
    masks = torch.zeros_like(batch.masks)
    masks[:, 24:] = 2
    batch = replace(batch, masks=masks)
    torch.manual_seed(0)
    model = MaskACT(make_spec(optimizer_lr=3e-3, stage2_dino_lr_ratio=1.0)).train()
    optimizer = build_optimizer(model)
    history = []
    for _ in range(15):
        result = model(batch)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        history.append(result.named())
    assert history[-1]["action"] < 0.7 * history[0]["action"]
    assert history[-1]["mask"] < 0.9 * history[0]["mask"]
