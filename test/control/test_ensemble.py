"""Temporal ensembling equals the published formula in lock step, and the naive average off it."""

import numpy as np
import pytest
from support.arms import robot

from maskact_ros.control.ensemble import TemporalEnsembler
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import Joint

PERIOD_NS = 33_333_333
HORIZON, JOINTS = 12, 3
COEFFICIENTS = [0.01, 0.1, 0.0, -0.05, 5.0, 1000.0, -1000.0]


def published_formula(predictions: np.ndarray, step: int, coeff: float) -> np.ndarray:
    """The action executed at `step`, from the (T, K, D) chunks predicted at steps 0 to `step` (Zhao et al. 2023)."""
    every = np.array([predictions[t, step - t] for t in range(step + 1) if step - t < HORIZON])  # oldest first
    weights = np.exp(-coeff * np.arange(len(every)))
    weights /= weights.sum()
    return (every * weights[:, None]).sum(axis=0)


def naive_moment(chunks: list[Chunk], time_ns: int, coeff: float) -> np.ndarray:
    """The weighted average of what every chunk that reaches `time_ns` says of it."""
    said = [chunk.sample(np.array([time_ns]))[0] for chunk in chunks if time_ns <= chunk.end_ns]
    shift = max(-coeff * i for i in range(len(said)))  # the formula's own weights may overflow
    weights = [np.exp(-coeff * i - shift) for i in range(len(said))]
    return sum(w * position for w, position in zip(weights, said, strict=True)) / sum(weights)


@pytest.mark.parametrize("coeff", COEFFICIENTS[:4])
def test_in_lock_step_it_is_the_published_formula(coeff):
    predictions = np.random.default_rng(0).normal(size=(40, HORIZON, JOINTS))
    ensembler = TemporalEnsembler(coeff)
    for step, actions in enumerate(predictions):
        chunk = ensembler.add(Chunk(7 + step * PERIOD_NS, PERIOD_NS, actions))
        np.testing.assert_allclose(chunk.actions[0], published_formula(predictions, step, coeff), rtol=0, atol=1e-6)


@pytest.mark.parametrize("coeff", COEFFICIENTS)
@pytest.mark.parametrize("seed", range(3))
def test_at_any_stamps_it_is_the_naive_average_of_each_moment(coeff, seed):
    random = np.random.default_rng(seed)
    ensembler = TemporalEnsembler(coeff)
    chunks: list[Chunk] = []
    stamp_ns = 1_800_000_000 * 10**9
    for _ in range(25):
        stamp_ns += int(random.integers(1, 4 * PERIOD_NS))
        newest = Chunk(stamp_ns, PERIOD_NS, random.normal(size=(HORIZON, JOINTS)))
        chunks.append(newest)
        ensembled = ensembler.add(newest)
        assert (ensembled.stamp_ns, ensembled.period_ns) == (newest.stamp_ns, newest.period_ns)
        expected = np.stack([naive_moment(chunks, int(due_ns), coeff) for due_ns in newest.due_ns])
        np.testing.assert_allclose(ensembled.actions, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("coeff", "favourite"), [(1.7e308, 0), (-1.7e308, -1)])
@pytest.mark.filterwarnings("ignore:overflow")
def test_the_largest_coefficients_leave_the_oldest_or_the_newest_chunk_alone(coeff, favourite):
    ensembler = TemporalEnsembler(coeff)
    chunks = [Chunk(i * PERIOD_NS, PERIOD_NS, np.full((HORIZON, JOINTS), float(i))) for i in range(5)]
    ensembled = [ensembler.add(chunk) for chunk in chunks][-1]
    np.testing.assert_array_equal(ensembled.actions[0], chunks[favourite].actions[0])


def test_the_first_chunk_and_the_first_after_a_reset_stay_as_they_are():
    random = np.random.default_rng(0)
    ensembler = TemporalEnsembler(0.01)
    chunks = [Chunk(i * PERIOD_NS, PERIOD_NS, random.normal(size=(HORIZON, JOINTS))) for i in range(3)]
    np.testing.assert_array_equal(ensembler.add(chunks[0]).actions, chunks[0].actions)
    assert not np.array_equal(ensembler.add(chunks[1]).actions, chunks[1].actions)
    ensembler.reset()
    np.testing.assert_array_equal(ensembler.add(chunks[2]).actions, chunks[2].actions)


@pytest.mark.parametrize("stamp_ns", [0, PERIOD_NS])
def test_a_clock_that_goes_back_or_stands_forgets_the_earlier_chunks(stamp_ns):
    random = np.random.default_rng(0)
    ensembler = TemporalEnsembler(0.01)
    ensembler.add(Chunk(PERIOD_NS, PERIOD_NS, random.normal(size=(HORIZON, JOINTS))))
    late = Chunk(stamp_ns, PERIOD_NS, random.normal(size=(HORIZON, JOINTS)))
    np.testing.assert_array_equal(ensembler.add(late).actions, late.actions)


def test_memory_holds_only_chunks_that_reach_into_the_future():
    ensembler = TemporalEnsembler(0.01)
    for i in range(1000):
        ensembler.add(Chunk(i * PERIOD_NS, PERIOD_NS, np.zeros((HORIZON, JOINTS))))
    assert len(ensembler._chunks) == HORIZON


def test_a_chunk_after_a_long_pause_is_not_mixed_with_used_up_ones():
    ensembler = TemporalEnsembler(0.0)
    ensembler.add(Chunk(0, PERIOD_NS, np.ones((HORIZON, JOINTS))))
    later = Chunk(HORIZON * PERIOD_NS, PERIOD_NS, np.zeros((HORIZON, JOINTS)))
    np.testing.assert_array_equal(ensembler.add(later).actions, later.actions)


def test_grippers_are_as_the_newest_chunk_says_and_continuous_joints_are_averaged_on_one_turn():
    arm = robot(
        Joint(name="lift", lower=-1.0, upper=2.0, velocity=1.0, acceleration=5.0),
        Joint(name="turn", type="continuous", velocity=1.0, acceleration=5.0),
        Joint(name="grip", type="prismatic", lower=0.0, upper=1.0, velocity=1.0, acceleration=5.0, gripper=True),
    )
    ensembler = TemporalEnsembler(0.0, arm)
    ensembler.add(Chunk(0, 100, np.tile([0.0, 3.1, 0.0], (10, 1))))
    averaged = ensembler.add(Chunk(1, 100, np.tile([1.0, -3.1, 1.0], (10, 1))))
    np.testing.assert_allclose(averaged.actions[:9], np.tile([0.5, -np.pi, 1.0], (9, 1)))
