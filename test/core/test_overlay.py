"""The overlay shows every class in its own colour, leaves the background alone, and its legend stays in a corner."""

import cv2
import numpy as np
import pytest

from maskact_ros.core.overlay import OKABE_ITO, class_colours, overlay

NAMES = ("background", "arm", "cube", "bin")


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def bottom_right(height, width, label):
    """Labels with one class in the corner opposite to the legend."""
    labels = np.zeros((height, width), np.uint8)
    labels[height * 5 // 8 :, width * 5 // 8 :] = label
    return labels


def legend_of(height, width, names, labels=None):
    """Height and width of what the overlay changes although the mask is empty."""
    labels = np.zeros((height, width), np.uint8) if labels is None else labels
    changed = np.argwhere((overlay(grey(height, width), labels, names, alpha=0.5) != 128).any(axis=2) & (labels == 0))
    return tuple(changed.max(axis=0) + 1) if len(changed) else (0, 0)


@pytest.mark.parametrize("label", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_inside_of_a_class_is_blended_with_its_colour(label, alpha):
    shown = overlay(grey(240, 320), bottom_right(240, 320, label), NAMES, alpha=alpha)
    expected = (1 - alpha) * 128 + alpha * np.array(OKABE_ITO[label - 1])
    assert np.abs(shown[200:-20, 250:-20] - expected).max() <= 1


def test_outline_of_a_class_has_its_full_colour():
    shown = overlay(grey(240, 320), bottom_right(240, 320, 2), NAMES, alpha=0.3)
    assert (shown[150, 200:] == OKABE_ITO[1]).all()
    assert (shown[149, 200:] == 128).all()


def test_touching_classes_are_outlined_against_each_other():
    labels = np.zeros((240, 320), np.uint8)
    labels[150:, 160:240], labels[150:, 240:] = 1, 2
    shown = overlay(grey(240, 320), labels, NAMES, alpha=0.3)
    assert (shown[200, 239] == OKABE_ITO[0]).all()
    assert (shown[200, 240] == OKABE_ITO[1]).all()


def test_background_is_left_as_it_was_outside_of_the_legend():
    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    labels = bottom_right(240, 320, 1)
    shown = overlay(picture, labels, NAMES, alpha=0.5)
    outside = labels == 0
    outside[:120, :160] = False
    assert np.array_equal(shown[outside], picture[outside])


def test_inputs_are_not_changed_and_out_is_filled():
    picture, labels = grey(240, 320), bottom_right(240, 320, 1)
    buffer = np.empty(240 * 320 * 3, np.uint8)  # a message's memory
    shown = overlay(picture, labels, NAMES, alpha=0.5, out=buffer.reshape(240, 320, 3))
    assert np.shares_memory(shown, buffer)
    assert np.array_equal(buffer.reshape(240, 320, 3), overlay(picture, labels, NAMES, alpha=0.5))
    assert (picture == 128).all()
    assert np.array_equal(labels, bottom_right(240, 320, 1))


@pytest.mark.parametrize("label", [4, 255])
def test_label_without_a_name_is_drawn_as_unknown(label):
    labels = bottom_right(240, 320, label)
    shown = overlay(grey(240, 320), labels, NAMES, alpha=0.5)
    assert (shown[200:-20, 250:-20] == 64).all()  # half way to black
    assert legend_of(240, 320, NAMES, labels)[0] > legend_of(240, 320, NAMES)[0]  # a line more


@pytest.mark.parametrize(
    ("height", "width"), [(240, 320), (480, 640), (480, 480), (640, 480), (720, 1280), (1080, 1920)]
)
@pytest.mark.parametrize(
    "names", [NAMES, [f"class {i} with a long, long name" for i in range(256)], ["background", "x"]]
)
def test_legend_stays_within_a_quarter_of_the_picture(height, width, names):
    bottom, right = legend_of(height, width, names)
    assert 0 < bottom <= height // 2
    assert 0 < right <= width // 2


@pytest.mark.parametrize(("height", "width"), [(240, 320), (1080, 1920)])
def test_legend_shows_the_colour_of_each_class(height, width):
    corner = overlay(grey(height, width), np.zeros((height, width), np.uint8), NAMES, alpha=0.5)[: height // 2]
    for colour in OKABE_ITO[:3]:
        assert (corner == colour).all(axis=2).sum() >= 16


def test_legend_is_the_same_in_every_frame_with_the_same_names():
    empty, full = np.zeros((240, 320), np.uint8), bottom_right(240, 320, 3)
    first, second = (overlay(grey(240, 320), labels, NAMES, alpha=0.5) for labels in (empty, full))
    assert np.array_equal(first[:120, :160], second[:120, :160])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (200, 3), (16, 16), (40, 50)])
def test_pictures_too_small_for_a_legend_go_without(height, width):
    assert legend_of(height, width, NAMES) == (0, 0)


@pytest.mark.parametrize("names", [["background", "Würfel", "立方体", ""], ["background"], []])
def test_any_names_will_do(names):
    assert overlay(grey(240, 320), bottom_right(240, 320, 1), names, alpha=0.5).shape == (240, 320, 3)


def test_every_class_has_a_colour_of_its_own():
    colours = class_colours(60)
    lab = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab, axis=2) + 1000 * np.eye(60)
    assert distance.min() > 12  # 2.3 can just be told apart
    assert len(np.unique(class_colours(255), axis=0)) == 255
    assert [tuple(colour) for colour in colours[:7].tolist()] == list(OKABE_ITO)
    assert np.array_equal(class_colours(255)[:60], colours)  # more classes do not change the first ones
