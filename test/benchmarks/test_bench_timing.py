"""Interleaved timings: every job once a round, in turned order, and ratios of the same rounds."""

import numpy as np
import pytest

from maskact_ros.tools.bench.timing import Samples, interleaved


def test_every_job_runs_once_a_round_and_none_always_after_the_same():
    ran = []
    jobs = {name: lambda name=name: ran.append(name) for name in "abc"}
    samples = interleaved(jobs, 3, warm_up=1)
    assert ran == [*"abc", *"abc", *"bca", *"cab"]
    assert {name: of.rounds for name, of in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert all((of.times_s > 0).all() for of in samples.values())


def test_figures_are_percentiles_of_the_rounds():
    samples = Samples(np.arange(1, 101) * 1e-3)
    assert samples.median_ms == pytest.approx(50.5)
    assert samples.p95_ms == pytest.approx(95.05)
    assert samples.spread == pytest.approx(49.5 / 50.5)


def test_a_ratio_is_of_the_same_rounds_so_a_machine_that_slows_down_does_not_change_it():
    slowing = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert Samples(3 * slowing).over(Samples(slowing)) == 3
    other = slowing.copy()
    other[2] = 100.0
    assert Samples(3 * slowing).over(Samples(other)) == 3


def test_an_interruption_leaves_the_rounds_that_are_complete():
    left = iter(range(5))

    def job():
        if next(left, None) is None:
            raise KeyboardInterrupt

    samples = interleaved({"first": lambda: None, "second": job}, 100, warm_up=0)
    assert samples["first"].rounds == samples["second"].rounds == 5


def test_an_interruption_before_the_first_round_is_passed_on():
    def job():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleaved({"only": job}, 3)


def test_what_counts_the_rounds_is_called_after_each():
    counted = []
    interleaved({"only": lambda: None}, 4, after_round=lambda: counted.append(1))
    assert len(counted) == 4
