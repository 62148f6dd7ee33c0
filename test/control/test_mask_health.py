"""A mask that has collapsed is told from one that changes as things move."""

import numpy as np

from maskact_ros.control.mask_health import SLOW_S, MaskFigures, MaskHealth

IMAGE_NS = 33_000_000
CONFIDENT = np.full(100, 0.9, np.float16)
UNSURE = np.full(100, 0.2, np.float16)
LONG = round(8 * SLOW_S * 30)  # images


class Camera:
    """Shows masks, an image period apart, to a `MaskHealth` with these thresholds."""

    def __init__(self, *, min_confidence: float = 0.0, max_change: float = 1.0):
        self.health = MaskHealth(3)
        self._thresholds = {"min_confidence": min_confidence, "max_change": max_change}
        self.stamp_ns = 0

    def see(self, *counts: int, confidence: np.ndarray = CONFIDENT, images: int = 1) -> MaskFigures:
        """The figures of the last of some images, whose classes cover so many patches."""
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int8)
        for _ in range(images):
            self.stamp_ns += IMAGE_NS
            figures = self.health.look(self.stamp_ns, labels, confidence, **self._thresholds)
        return figures


def test_the_figures_of_one_image():
    figures = Camera().see(80, 15, 5)
    np.testing.assert_allclose(figures.shares, [0.8, 0.15, 0.05])
    assert abs(figures.confidence - 0.9) < 1e-3
    assert figures.change == 0.0
    assert figures.fault is None


def test_an_unsure_mask_is_a_fault_and_nothing_to_measure_changes_against():
    camera = Camera(min_confidence=0.5, max_change=0.1)
    figures = camera.see(0, 0, 100, confidence=UNSURE, images=LONG)
    assert figures.fault == "the mask's mean confidence is 0.200; allowed: at least 0.5"
    assert camera.see(80, 15, 5).fault is None


def test_a_collapse_is_a_fault_for_as_long_as_it_lasts():
    camera = Camera(max_change=0.1)
    assert camera.see(80, 15, 5, images=300).change < 1e-9
    for images in (1, LONG):
        collapsed = camera.see(100, images=images)
        assert abs(collapsed.change - 0.2) < 1e-9
        assert collapsed.fault.startswith("the classes of 0.200 of the mask's patches changed suddenly")
    assert camera.see(80, 15, 5).fault is None


def test_a_scene_that_has_changed_is_accepted_after_a_reset():
    camera = Camera(max_change=0.1)
    camera.see(80, 15, 5)
    assert camera.see(40, 55, 5).fault is not None
    camera.health.reset()
    assert camera.see(40, 55, 5).fault is None
    assert camera.see(80, 15, 5).fault is not None


def test_what_moves_slowly_is_no_sudden_change():
    camera = Camera(max_change=0.07)
    assert all(camera.see(90 - i // 30, 10 + i // 30).fault is None for i in range(900))


def test_a_clock_that_goes_back_begins_anew():
    camera = Camera(max_change=0.1)
    camera.see(50, 50, images=2)
    camera.stamp_ns = 0
    assert camera.see(0, 100).fault is None
