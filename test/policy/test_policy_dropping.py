"""Patches that the rules isolate may be left out before the transformer: which, whether exactly, and what is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.policy.rules import isolated_labels
from maskact_ros.policy.runtime import PlannerRuntime

STATE = np.array([0.1, 0.2, 0.3])
LABELS = np.array([0, 1, 2, 0, 1, 0, 0, 2, 1], np.int8)
FEATURES = np.random.default_rng(1).standard_normal((9, 16)).astype(np.float16)
ISOLATING = {"-1": [-1, 1, 2], "0": [0], "1": [1, 2], "2": [-1, 2]}


@pytest.mark.parametrize(
    ("rules", "isolated"),
    [
        (ISOLATING, (0,)),
        (ISOLATING | {"0": [1, 2]}, (0,)),  # what it may see itself is no matter
        (ISOLATING | {"-1": [0, 1]}, ()),  # latent and state see it
        (ISOLATING | {"2": [0]}, ()),
        ({"0": [0], "1": [1], "2": [2]}, ()),  # latent and state have no rule: they see all
        ({"-1": [-1], "0": [0], "1": [1], "2": [2]}, (0, 1, 2)),
        ({"-1": [-1], "1": [1], "2": [2]}, (0,)),  # 0 has no rule: it sees all, and nobody sees it
        (None, ()),
    ],
)
def test_a_label_is_isolated_where_no_other_labels_rule_allows_it(rules, isolated):
    config = MaskACTConfig.from_dict({"num_mask": 3, "label_attention_rules": rules})
    assert isolated_labels(config) == isolated


def test_without_masks_nothing_is_isolated():
    assert isolated_labels(MaskACTConfig.from_dict({"use_mask": False})) == ()


def saved(folder, spec):
    torch.manual_seed(2)
    return save_checkpoint(folder, MaskACT(spec))


@pytest.fixture(scope="module")
def info(make_spec, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("dropping") / "checkpoint", make_spec(label_attention_rules=ISOLATING))


@pytest.fixture(scope="module")
def trained_without(make_spec, tmp_path_factory):
    spec = make_spec(label_attention_rules=ISOLATING, dropped_labels=[0])
    return saved(tmp_path_factory.mktemp("trained") / "checkpoint", spec)


def test_it_is_off_unless_asked_for(info):
    planner = PlannerRuntime.load(info)
    assert planner.drops_text == "no patches are dropped"
    assert not planner.drop_isolated


def test_dropped_patches_do_not_matter_and_others_do(info):
    planner = PlannerRuntime.load(info, drop_isolated=True)
    chunk = planner.predict(FEATURES, LABELS, STATE)
    np.testing.assert_array_equal(planner.predict(changed(LABELS == 0), LABELS, STATE), chunk)
    assert not np.allclose(planner.predict(changed(LABELS == 1), LABELS, STATE), chunk)
    assert not np.allclose(PlannerRuntime.load(info).predict(FEATURES, LABELS, STATE), chunk)  # its decoder sees all


def changed(patches):
    features = FEATURES.copy()
    features[patches] += 1
    return features


def test_it_says_that_a_decoder_that_was_trained_to_see_them_misses_them(info):
    text = PlannerRuntime.load(info, drop_isolated=True).drops_text
    assert text == (
        "patches of 0 (background) are dropped; not exact: the policy was trained with 0 in its decoder's view"
    )


def test_it_is_exact_for_labels_that_the_policy_was_trained_without(trained_without):
    plain, dropping = PlannerRuntime.load(trained_without), PlannerRuntime.load(trained_without, drop_isolated=True)
    expected = plain.predict(FEATURES, LABELS, STATE)
    np.testing.assert_array_equal(dropping.predict(FEATURES, LABELS, STATE), expected)
    for planner in (plain, dropping):
        assert planner.drops_text == (
            "patches of 0 (background) are dropped; exact: the policy was trained without them"
        )


def test_it_can_change_while_running_as_the_rules_can(info):
    planner = PlannerRuntime.load(info)
    dropping = planner.with_config(info.config, drop_isolated=True)
    free = dropping.with_config(replace(info.config, label_attention_rules=None))
    assert "are dropped" in dropping.drops_text
    assert free.drop_isolated
    assert free.drops_text == planner.drops_text == "no patches are dropped"
    loaded = PlannerRuntime.load(info, drop_isolated=True)
    np.testing.assert_array_equal(dropping.predict(FEATURES, LABELS, STATE), loaded.predict(FEATURES, LABELS, STATE))


@pytest.mark.parametrize("label", [0, 1])
def test_a_picture_of_one_label_is_planned_from(info, label):
    labels = np.full(9, label, np.int8)
    assert PlannerRuntime.load(info, drop_isolated=True).predict(FEATURES, labels, STATE).shape == (6, 3)
