"""A mask that has collapsed is told from one that changes as things move."""

import numpy as np

from maskact_ros.control.mask_health import SLOW_S, MaskHealth

IMAGE_NS = 33_000_000
CONFIDENT = np.full(100, 0.9, np.float16)


def labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int8)


def test_the_figures_of_one_image():
    figures = MaskHealth(3).look(0, labels(80, 15, 5), CONFIDENT)
    np.testing.assert_allclose(figures.shares, [0.8, 0.15, 0.05])
    assert abs(figures.confidence - 0.9) < 1e-3
    assert figures.change == 0.0
    assert figures.fault(min_confidence=0.0, max_change=1.0) is None
    assert "mean confidence is 0.900; allowed: at least 0.95" in figures.fault(min_confidence=0.95, max_change=1.0)


def test_a_collapse_is_a_change_until_it_has_lasted():
    health = MaskHealth(3)
    for i in range(300):
        assert health.look(i * IMAGE_NS, labels(80, 15, 5), CONFIDENT).change < 1e-9
    collapsed = [health.look((300 + i) * IMAGE_NS, labels(100), CONFIDENT) for i in range(round(8 * SLOW_S * 30))]
    assert abs(collapsed[0].change - 0.2) < 1e-9
    assert "allowed: at most 0.1" in collapsed[30].fault(min_confidence=0.0, max_change=0.1)
    assert collapsed[-1].change < 0.001


def test_what_moves_slowly_is_no_sudden_change():
    health = MaskHealth(2)
    changes = [health.look(i * IMAGE_NS, labels(90 - i // 30, 10 + i // 30), CONFIDENT).change for i in range(900)]
    assert max(changes) < 0.07


def test_a_clock_that_goes_back_begins_anew():
    health = MaskHealth(2)
    health.look(10**12, labels(50, 50), CONFIDENT)
    assert health.look(10**9, labels(0, 100), CONFIDENT).change == 0.0
