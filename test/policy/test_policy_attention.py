"""Label attention and the vote of patch labels, each against its naive version."""

import pytest
import torch

from maskact_ros.policy.model.act import ACT
from maskact_ros.policy.model.attention import label_attention_mask
from maskact_ros.policy.model.voting import vote
from maskact_ros.policy.rules import rule_table

RULES = {
    "one class each": {0: (0,), 1: (1,), 2: (2,)},
    "latent ruled too": {-1: (0, 2), 1: (-1, 2)},
    "a class left out": {0: (1,), 1: (0, 2)},
    "only absent keys": {0: (2,), 2: (-1,)},
}


def naive_mask(labels, rules):
    batch, tokens = labels.shape
    mask = torch.zeros(batch, tokens, tokens, dtype=torch.bool)
    for b in range(batch):
        for query in range(tokens):
            rule = rules.get(int(labels[b, query]))
            present = [key for key in range(tokens) if rule is None or int(labels[b, key]) in rule]
            for key in present or range(tokens):
                mask[b, query, key] = True
    return mask


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_the_table_gives_the_same_mask_as_a_loop_over_all_tokens(rules):
    labels = torch.randint(-1, 3, (4, 30), generator=torch.Generator().manual_seed(1))
    assert torch.equal(label_attention_mask(labels, torch.from_numpy(rule_table(rules, 3))), naive_mask(labels, rules))


def test_a_query_whose_rule_allows_no_present_label_attends_to_all():
    labels = torch.tensor([[-1, 0, 0, 1]])
    mask = label_attention_mask(labels, torch.from_numpy(rule_table({0: (2,)}, 3)))
    assert mask[0, 1].all()
    assert torch.equal(mask, naive_mask(labels, {0: (2,)}))


def test_the_vote_is_the_naive_vote():
    logits = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    importance = torch.tensor([1.0, 3.0, 0.0])
    labels, confidence = vote(logits, importance)
    probability = logits.softmax(1)
    clamped = [1.0, 3.0, 0.01]
    for b in range(2):
        for patch in range(9):
            y, x = 16 * (patch // 3), 16 * (patch % 3)
            share = [clamped[c] * float(probability[b, c, y : y + 16, x : x + 16].mean()) for c in range(3)]
            assert int(labels[b, patch]) == share.index(max(share))
            assert float(confidence[b, patch]) == pytest.approx(max(share) / sum(share), rel=1e-5)


DROPPING_RULES = {
    "unruled": None,
    "ruled": {0: [0], 1: [-1, 1], 2: [-1, 2]},
    "to the dropped only": {1: [0], -1: [0, 2]},
}


@pytest.fixture(params=DROPPING_RULES.values(), ids=DROPPING_RULES.keys())
def dropping(make_spec, request):
    """A tiny ACT that drops label 0, and features, labels and state of three observations."""
    torch.manual_seed(2)
    labels = torch.randint(0, 3, (3, 9))
    labels[0, 0], labels[2] = 0, 0  # the third shows nothing but background
    config = make_spec(dropped_labels=[0], label_attention_rules=request.param).config
    return ACT(config=config, state_dim=2, action_dim=2).eval(), torch.randn(3, 9, 16), labels, torch.randn(3, 2)


@torch.no_grad()
def test_a_dropped_patch_cannot_change_the_actions(dropping):
    act, features, labels, state = dropping
    changed = torch.where(labels[:, :, None] == 0, 1e3, features)
    assert not torch.equal(changed, features)
    torch.testing.assert_close(act(changed, labels, state), act(features, labels, state))


@torch.no_grad()
def test_dropping_tokens_one_by_one_equals_masking_them_in_a_batch(dropping):
    act, features, labels, state = dropping
    alone = [act(features[i : i + 1], labels[i : i + 1], state[i : i + 1]) for i in range(len(labels))]
    torch.testing.assert_close(act(features, labels, state), torch.cat(alone))
