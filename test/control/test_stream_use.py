"""A stream of which most is dropped is told from one that loses a message now and then."""

import numpy as np
import pytest

from maskact_ros.control.lateness import Lateness
from maskact_ros.control.stream_use import LASTING_S, StreamUse


class Stream:
    """Messages at a rate, of which each was used or dropped for a reason."""

    def __init__(self, rate_hz: float, repeats=()):
        self.now_s, self._period_s = 100.0, 1 / rate_hz
        self.use = StreamUse(repeats, now_s=lambda: self.now_s)

    def note(self, *reasons: str | None, seconds: float) -> str | None:
        """These reasons, in turn, for so long; returns the last verdict."""
        verdict = None
        for number in range(max(1, round(seconds / self._period_s))):
            self.now_s += self._period_s
            verdict = self.use.note(reasons[number % len(reasons)])
        return verdict


@pytest.mark.parametrize("rate_hz", [1.3, 10.0, 47.0, 400.0])
def test_a_stream_of_which_nothing_is_used_is_told_after_a_second_and_no_more_when_it_is_used_again(rate_hz):
    stream = Stream(rate_hz)
    assert stream.note("old", seconds=0.9 * LASTING_S) is None
    assert stream.note("old", seconds=2.0) == "old"
    assert stream.note(None, seconds=2.5) is None


def test_of_a_stream_slower_than_the_window_two_messages_tell():
    stream = Stream(0.2)
    assert stream.note("old", seconds=5.0) is None
    assert stream.note("old", seconds=5.0) == "old"
    assert stream.note(None, seconds=5.0) is None


def test_a_stall_of_a_stream_that_is_used_is_nothing_to_speak_of():
    stream = Stream(30.0)
    stream.note(None, seconds=3.0)
    assert stream.note("old", seconds=0.8) is None
    assert stream.note(None, seconds=0.5) is None


def test_most_is_more_than_half_and_the_commonest_reason_is_told():
    assert Stream(30.0).note("old", None, seconds=4.0) is None
    assert Stream(30.0).note("old", "old", None, seconds=4.0) == "old"
    assert Stream(30.0).note("late", "old", "old", seconds=4.0) == "old"


def test_repeats_count_only_where_nothing_new_comes():
    doubled = Stream(60.0, repeats=("repeated",))
    assert doubled.note(None, "repeated", "repeated", "repeated", seconds=5.0) is None
    assert doubled.note("repeated", seconds=5.0) == "repeated"
    assert doubled.note("old", "repeated", "repeated", seconds=5.0) == "old"


def test_after_a_reset_it_begins_anew():
    stream = Stream(30.0)
    stream.note("old", seconds=3.0)
    stream.use.reset()
    assert stream.note("old", seconds=0.5) is None
    assert stream.note("old", seconds=2.0) == "old"


def test_against_counting_it_all_anew():
    random, stream, seen = np.random.default_rng(3), Stream(20.0), []
    for _ in range(3000):
        share = 0.2 + 0.6 * (stream.now_s // 7 % 2)
        reason = str(random.choice(["a", "b"])) if random.random() < share else None
        verdict = stream.note(reason, seconds=0.0)
        seen = [each for each in [*seen, (stream.now_s, reason)] if each[0] >= stream.now_s - 2.0]
        dropped = [why for _, why in seen if why is not None]
        if seen[0][0] > stream.now_s - 1.0 or 2 * len(dropped) <= len(seen):
            assert verdict is None
        else:
            assert dropped.count(verdict) == max(dropped.count("a"), dropped.count("b"))


@pytest.mark.parametrize(
    ("lateness", "cause"),
    [
        (
            Lateness(1.65, under_way_s=1.5, waited_s=0.001),
            "1.500 s of that lie between their sending and their receipt",
        ),
        (Lateness(3600.2, under_way_s=3600.0, waited_s=0.0), "the clocks of the two machines differ"),
        (Lateness(1.4, under_way_s=0.003, waited_s=0.001), "1.396 s of that had passed when they were sent"),
        (Lateness(2.5, under_way_s=-0.4, waited_s=0.0), "2.900 s of that had passed when they were sent"),
        (Lateness(1.3, under_way_s=0.002, waited_s=0.9), "they waited for 0.900 s of that here: inference is too slow"),
    ],
)
def test_where_the_time_went_is_told(lateness, cause):
    sentence = lateness.sentence(1.25)
    assert sentence.startswith(f"their image is {lateness.age_s:.3f} s old; allowed: 1.25 s (max_image_age_s); ")
    assert cause in sentence
