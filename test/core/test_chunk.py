"""A chunk says where every joint is at every moment."""

import numpy as np
import pytest

from maskact_ros.core.chunk import Chunk

SECOND = 1_000_000_000


def naive_sample(chunk: Chunk, time_ns: int) -> np.ndarray:
    """Walks the points one by one."""
    due = [chunk.stamp_ns + (i + 1) * chunk.period_ns for i in range(len(chunk.actions))]
    if time_ns <= due[0]:
        return chunk.actions[0]
    for i in range(1, len(due)):
        if time_ns <= due[i]:
            fraction = (time_ns - due[i - 1]) / chunk.period_ns
            return chunk.actions[i - 1] + fraction * (chunk.actions[i] - chunk.actions[i - 1])
    return chunk.actions[-1]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("stamp_ns", [0, -5 * SECOND, 1_800_000_000 * SECOND + 123_456_789])
def test_sampling_equals_the_naive_loop(count, stamp_ns):
    random = np.random.default_rng(count)
    chunk = Chunk(stamp_ns, 33_333_333, random.normal(size=(count, 7)))
    margin = 3 * chunk.period_ns
    times_ns = random.integers(stamp_ns - margin, chunk.end_ns + margin, size=300)
    expected = np.stack([naive_sample(chunk, int(time_ns)) for time_ns in times_ns])
    np.testing.assert_allclose(chunk.sample(times_ns), expected, rtol=0, atol=1e-12)


def test_points_are_hit_exactly_when_they_are_due():
    actions = np.random.default_rng(0).normal(size=(50, 3))
    chunk = Chunk(1_800_000_000 * SECOND + 1, 33_333_333, actions)
    assert chunk.due_ns[0] == chunk.stamp_ns + chunk.period_ns  # not at the stamp: the image shows the past
    assert chunk.due_ns[-1] == chunk.end_ns
    np.testing.assert_array_equal(chunk.sample(chunk.due_ns), actions)


def test_outside_of_its_points_a_chunk_stands_still():
    chunk = Chunk(0, SECOND, np.array([[1.0], [2.0]]))
    far_ns = 100 * 365 * 86_400 * SECOND
    np.testing.assert_array_equal(chunk.sample(np.array([-far_ns, 0, far_ns])), [[1.0], [1.0], [2.0]])


@pytest.mark.parametrize(
    ("actions", "period_ns", "named"),
    [
        (np.zeros((0, 2)), 1, r"shape \(0, 2\)"),
        (np.zeros((2, 0)), 1, r"shape \(2, 0\)"),
        (np.zeros(3), 1, r"shape \(3,\)"),
        (np.array([[0.0, np.nan]]), 1, "not all finite"),
        (np.array([[-np.inf, 0.0]]), 1, "not all finite"),
        (np.array([[2e9, 0.0]]), 1, "and within"),
        (np.zeros((2, 2)), 0, "period is 0 ns"),
    ],
)
def test_a_chunk_that_means_nothing_is_refused(actions, period_ns, named):
    with pytest.raises(ValueError, match=named):
        Chunk(0, period_ns, actions)
