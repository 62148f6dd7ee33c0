"""Augmentation changes picture and mask alike, what a class owns stays its own, and mistakes are one sentence."""

from dataclasses import replace

import numpy as np
import pytest
from support.small_run import mask_of, picture_of

from maskact_ros.training.run import augment as module
from maskact_ros.training.run.augment import PRESETS, Augmentation, augment, augmentation_from

SEEDS = range(20)


@pytest.fixture
def rgb():
    return picture_of(3)[:, 8:56].copy()


@pytest.fixture
def mask():
    return mask_of(3)[:, 8:56].copy()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_none_leaves_a_picture_as_it_is(rgb, mask):
    changed, labels = augment(rgb, mask, PRESETS["none"], rng())
    assert (changed == rgb).all()
    assert (labels == mask).all()


@pytest.mark.parametrize("preset", ["colour", "standard", "full"])
def test_a_preset_changes_a_copy_and_always_the_same_way(rgb, mask, preset):
    before = rgb.copy(), mask.copy()
    one, two = (augment(rgb, mask, PRESETS[preset], rng(4)) for _ in range(2))
    assert (rgb == before[0]).all()
    assert (mask == before[1]).all()
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()
    assert (one[0] != rgb).mean() > 0.5
    assert one[0].dtype == np.uint8
    assert one[0].shape == rgb.shape


def test_colour_leaves_the_mask_alone(rgb, mask):
    for seed in SEEDS:
        assert augment(rgb, mask, PRESETS["colour"], rng(seed))[1] is mask


def test_picture_and_mask_move_alike(mask):
    how = Augmentation(shift=0.2, scale=0.2, rotation_deg=30)
    of_classes = np.array([[0, 0, 0], [120, 120, 120], [240, 240, 240]], np.uint8)
    for seed in SEEDS:
        moved, labels = augment(of_classes[mask], mask, how, rng(seed))
        inner = labels > 0
        close = np.abs(moved[:, :, 0].astype(int) - of_classes[labels][:, :, 0]) < 130
        assert close[inner].mean() > 0.98  # all but corners, where interpolation mixes four


def test_the_border_that_comes_in_is_background():
    how = Augmentation(shift=0.4)
    filled = np.ones((48, 48), np.uint8)
    _, labels = augment(np.full((48, 48, 3), 200, np.uint8), filled, how, rng(1))
    assert set(np.unique(labels)) == {0, 1}


def test_another_background_touches_nothing_else(rgb, mask):
    how = Augmentation(background_probability=1.0)
    shares = []
    for seed in SEEDS:
        changed, labels = augment(rgb, mask, how, rng(seed))
        assert (changed[mask > 0] == rgb[mask > 0]).all()
        assert (labels == mask).all()
        shares.append((changed[mask == 0] != rgb[mask == 0]).mean())
    assert min(shares) > 0.5


def test_distractors_lie_on_the_background_and_are_background(rgb, mask):
    how = Augmentation(distractors=8, distractor_size=0.5)
    found = 0
    for seed in SEEDS:
        changed, labels = augment(rgb, mask, how, rng(seed))
        assert (changed[mask > 0] == rgb[mask > 0]).all()
        assert (labels == mask).all()
        found += (changed != rgb).any()
    assert found > len(SEEDS) // 2


def test_each_class_is_recoloured_by_itself(mask):
    one_colour = np.full((48, 48, 3), (90, 120, 60), np.uint8)
    how = Augmentation(recolour_probability=1.0, recolour_hue_deg=90, recolour_gain=0.3)
    changed, _ = augment(one_colour, mask, how, rng(2))
    colours = [np.unique(changed[mask == label], axis=0) for label in range(3)]
    assert [len(c) for c in colours] == [1, 1, 1]
    assert len({tuple(c[0]) for c in colours}) == 3


def test_without_a_mask_only_the_picture_as_a_whole_changes(rgb):
    how = Augmentation(recolour_probability=1.0, recolour_gain=0.5, background_probability=1.0, distractors=9)
    changed, labels = augment(rgb, None, how, rng())
    assert labels is None
    assert (changed == rgb).all()


def test_a_third_of_a_turn_of_hue_makes_red_green():
    np.testing.assert_allclose(module._turned(120) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_fast_light_is_the_plain_formula(rgb):
    fast = module._lit(rgb, 0.6, rng(7))
    draws = rng(7)
    angle, strength = draws.uniform(0, 2 * np.pi), draws.uniform(0, 0.6)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    light = 1 + strength / np.sqrt(2) * (x * np.cos(angle) + y * np.sin(angle))
    plain = np.clip(rgb * light[:, :, None], 0, 255)
    assert np.abs(fast - plain).max() <= 3  # factors are in steps of 1 / 127


def test_noise_is_as_strong_as_it_says_and_has_no_bias():
    grey = np.full((160, 160, 3), 128, np.uint8)
    draws = rng(3)
    noisy = module._noisy(grey, 0.1, rng(3)).astype(float) - 128
    draws.integers(len(module._NOISE) - grey.size + 1)
    strength = 255 * draws.uniform(0, 0.1)
    assert noisy.std() == pytest.approx(strength, rel=0.03)
    assert abs(noisy.mean()) < 0.5


def test_a_file_says_what_differs_from_a_preset(tmp_path):
    path = tmp_path / "augmentation.yaml"
    path.write_text("preset: full\nblur_px: 0\ndistractors: 9\n")
    assert augmentation_from(str(path)) == replace(PRESETS["full"], blur_px=0, distractors=9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: wild", "preset is 'wild'; allowed: none, colour"),
        ("brightnes: 1", "unknown entry 'brightnes'; allowed: preset, probability, brightness"),
        ("brightness: 2", "brightness is 2; allowed: 0 to 1"),
        ("blur_px: .nan", "blur_px is nan; allowed: 0 to 20"),
        ("distractors: 1.5", "distractors is 1.5; allowed: an integer"),
        ("[1]", "allowed: a mapping"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "augmentation.yaml"
    path.write_text(text)
    with pytest.raises(module.TrainingError) as raised:
        augmentation_from(str(path))
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
