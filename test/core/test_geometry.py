"""The geometry between camera and model: round trips, odd sizes, and labels that stay under their pixels."""

import itertools
from typing import get_args

import cv2
import numpy as np
import pytest

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.geometry import GeometryError, ImageGeometry, Interpolation, Mode

MODES = get_args(Mode)
SIZES = [(480, 640), (640, 480), (96, 96), (101, 67), (67, 101), (33, 500), (1, 9), (5, 1)]


def labels_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 5, (height, width), np.uint8)


def naive_nearest(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = [int((y + 0.5) * labels.shape[0] / height) for y in range(height)]
    columns = [int((x + 0.5) * labels.shape[1] / width) for x in range(width)]
    return labels[np.ix_(rows, columns)]


@pytest.mark.parametrize(("mode", "interpolation"), list(itertools.product(MODES, get_args(Interpolation))))
def test_dictionary_gives_the_same_geometry_back(mode, interpolation):
    geometry = ImageGeometry(mode, interpolation)
    assert ImageGeometry.from_dict(geometry.to_dict()) == geometry


def test_defaults_are_the_references_stretch_with_linear_interpolation():
    assert ImageGeometry.from_dict({}) == ImageGeometry("stretch", "linear")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mode": "squeeze"}, ["mode", "squeeze", "letterbox"]),
        ({"interpolation": None}, ["interpolation", "None", "linear"]),
        ({"mode": ["stretch"]}, ["mode", "stretch"]),
        ({"size": 480}, ["size", "mode, interpolation"]),
        ("stretch", ["stretch", "mapping"]),
    ],
)
def test_bad_geometry_is_one_sentence_with_entry_and_value(values, named):
    with pytest.raises(GeometryError) as caught:
        ImageGeometry.from_dict(values)
    assert isinstance(caught.value, MaskACTError)
    assert all(word in str(caught.value) for word in named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_picture_of_the_models_size_is_not_copied(mode):
    rgb = np.zeros((96, 96, 3), np.uint8)
    labels = np.zeros((96, 96), np.uint8)
    geometry = ImageGeometry(mode)
    assert np.shares_memory(geometry.to_model(rgb, 96), rgb)
    assert np.shares_memory(geometry.labels_to_model(labels, 96), labels)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("size", [16, 97, 480])
def test_every_size_fits(mode, height, width, size):
    geometry = ImageGeometry(mode)
    square = geometry.to_model(np.zeros((height, width, 3), np.uint8), size)
    labels = geometry.labels_to_model(labels_of(height, width), size)
    back = geometry.to_camera(labels, height, width)
    confidence = geometry.to_camera(np.ones((size, size), np.float32), height, width)
    assert (square.shape, square.dtype) == ((size, size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((size, size), np.uint8)
    assert (back.shape, back.dtype) == ((height, width), np.uint8)
    assert (confidence.shape, confidence.dtype) == ((height, width), np.float32)
    assert all(array.flags.c_contiguous for array in (square, labels, back, confidence))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (101, 167), (97, 97)])
def test_masks_survive_the_way_to_a_larger_camera_and_back(mode, height, width):
    geometry = ImageGeometry(mode)
    labels = geometry.labels_to_model(labels_of(height, width), 96)  # with background where letterbox adds
    assert np.array_equal(geometry.labels_to_model(geometry.to_camera(labels, height, width), 96), labels)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_labels_come_from_the_nearest_pixel_centre(height, width):
    labels = labels_of(height, width)
    geometry = ImageGeometry()
    assert np.array_equal(geometry.labels_to_model(labels, 64), naive_nearest(labels, 64, 64))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize(("height", "width"), [(240, 320), (317, 211), (50, 70)])
def test_labels_stay_under_their_pixels(mode, interpolation, height, width):
    labels = np.zeros((height, width), np.uint8)
    cv2.circle(labels, (width // 2 + 3, height // 2 - 5), 12, 1, -1)
    geometry = ImageGeometry(mode, interpolation)
    picture = geometry.to_model(np.dstack([labels * 200] * 3), 128)[..., 0]
    centre_of_picture = np.average(np.indices(picture.shape), axis=(1, 2), weights=picture.astype(float))
    centre_of_labels = np.argwhere(geometry.labels_to_model(labels, 128)).mean(axis=0)
    assert np.abs(centre_of_picture - centre_of_labels).max() < 0.3


def test_nearest_pictures_and_labels_take_the_same_pixels():
    labels = labels_of(101, 67)
    picture = ImageGeometry(interpolation="nearest").to_model(np.dstack([labels] * 3), 64)
    assert np.array_equal(picture[..., 0], ImageGeometry().labels_to_model(labels, 64))


def test_letterbox_adds_black_and_background_evenly():
    geometry = ImageGeometry("letterbox")
    square = geometry.to_model(np.full((48, 96, 3), 255, np.uint8), 96)
    labels = geometry.labels_to_model(np.full((48, 96), 3, np.uint8), 96)
    for image in (square[..., 0], labels):
        assert not image[:24].any()
        assert not image[72:].any()
        assert image[24:72].all()


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (480, 640)])
def test_letterbox_border_does_not_bleed_into_the_confidence(height, width):
    geometry = ImageGeometry("letterbox")
    inside = geometry.labels_to_model(np.ones((height, width), np.uint8), 96).astype(np.float32)
    assert (geometry.to_camera(inside, height, width) == 1).all()


def test_outside_of_a_centre_crop_is_background_without_confidence():
    geometry = ImageGeometry("center_crop")
    labels = geometry.to_camera(np.full((96, 96), 2, np.uint8), 48, 100)
    confidence = geometry.to_camera(np.ones((96, 96), np.float32), 48, 100)
    for image in (labels, confidence):
        assert not image[:, :26].any()
        assert not image[:, 74:].any()
        assert image[:, 26:74].all()
