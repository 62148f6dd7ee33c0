"""Joints by name, and the joint state that belongs to an image."""

import weakref

import numpy as np
import pytest

from maskact_ros.core.align import AlignmentError, JointOrder, StateBuffer

NAMES = ("pan", "lift", "grip")
MS = 1_000_000


def test_joints_are_picked_by_name_in_any_order_and_among_others():
    order = JointOrder(NAMES)
    values = {"pan": 1.0, "lift": 2.0, "grip": 3.0, "wheel": np.nan}
    shuffle = np.random.default_rng(0)
    for _ in range(50):
        names = list(shuffle.permutation(list(values)))
        np.testing.assert_array_equal(order.pick(names, [values[name] for name in names]), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("names", "values", "sentence"),
    [
        (["pan", "lift"], [1, 2], "the joints grip are missing; the message has pan, lift"),
        ([], [], "the joints pan, lift, grip are missing"),
        (["pan", "lift", "grip", "pan"], [1, 2, 3, 4], "the joints pan appear more than once"),
        (["pan", "lift", "grip"], [1, 2], "the message has 3 joint names but 2 positions"),
        (["pan", "lift", "grip"], [], "the message has 3 joint names but 0 positions"),
        (["pan", "lift", "grip"], [1, 2, 3, 4], "the message has 3 joint names but 4 positions"),
        (["grip", "lift", "pan"], [np.nan, 2, np.inf], "the position of pan, grip is not finite"),
    ],
)
def test_a_message_that_does_not_say_where_each_joint_is_gives_one_sentence(names, values, sentence):
    order = JointOrder(NAMES)
    with pytest.raises(AlignmentError) as caught:
        order.pick(names, values)
    assert str(caught.value).startswith(sentence)
    np.testing.assert_array_equal(order.pick(["lift", "grip", "pan"], [2, 3, 1]), [1, 2, 3])  # the next one is fine


def test_what_is_picked_does_not_change_with_the_message():
    values = np.array([1.0, 2.0, 3.0])
    picked = JointOrder(NAMES).pick(NAMES, values)
    values[:] = 0.0
    np.testing.assert_array_equal(picked, [1.0, 2.0, 3.0])


def test_a_state_is_in_force_until_the_next_one():
    buffer = StateBuffer(tolerance_s=0.1)
    buffer.add(100 * MS, np.array([1.0]))
    buffer.add(110 * MS, np.array([2.0]))
    assert [buffer.at(t * MS)[0] for t in (100, 109, 110, 150)] == [1.0, 1.0, 2.0, 2.0]


def test_an_image_from_before_all_states_has_none():
    buffer = StateBuffer(tolerance_s=0.1)
    with pytest.raises(AlignmentError, match="no joint state from before the image"):
        buffer.at(0)
    buffer.add(100 * MS, np.array([1.0]))
    with pytest.raises(AlignmentError, match="no joint state from before the image"):
        buffer.at(100 * MS - 1)


def test_a_state_older_than_the_tolerance_is_refused_with_both_ages():
    buffer = StateBuffer(tolerance_s=0.1)
    buffer.add(0, np.array([1.0]))
    assert buffer.at(100 * MS)[0] == 1.0
    with pytest.raises(AlignmentError, match=r"0\.250 s older than it; allowed: 0\.1 s"):
        buffer.at(250 * MS)


def test_a_state_that_a_coarse_clock_stamped_may_be_older_by_a_tick():
    buffer = StateBuffer(tolerance_s=0.1)
    buffer.add(0, np.array([1.0]))
    assert buffer.at(170 * MS, off_ns=80 * MS)[0] == 1.0
    with pytest.raises(AlignmentError, match=r"0\.190 s older than it"):
        buffer.at(190 * MS, off_ns=80 * MS)


def test_a_clock_that_goes_back_empties_the_buffer():
    buffer = StateBuffer(tolerance_s=10.0)
    buffer.add(5000 * MS, np.array([1.0]))
    buffer.add(1000 * MS, np.array([2.0]))
    assert buffer.at(6000 * MS)[0] == 2.0
    with pytest.raises(AlignmentError):
        buffer.at(999 * MS)


def test_of_states_with_one_stamp_only_the_last_is_kept():
    buffer = StateBuffer(tolerance_s=0.1)
    first = np.array([1.0])
    kept = weakref.ref(first)
    buffer.add(100 * MS, first)
    buffer.add(100 * MS, np.array([2.0]))
    del first
    assert kept() is None
    assert buffer.at(100 * MS)[0] == 2.0


def test_random_streams_equal_the_naive_search():
    random = np.random.default_rng(0)
    for _ in range(30):
        tolerance_s, keep_s = random.uniform(0.005, 0.1), random.uniform(0.3, 0.5)
        buffer = StateBuffer(tolerance_s=tolerance_s, keep_s=keep_s)
        states: list[tuple[int, float]] = []  # since the clock last went back, none forgotten
        stamp_ns = int(random.integers(10**18))
        for _ in range(150):
            stamp_ns += int(random.choice([0, 1, 10 * MS, 40 * MS, -30 * MS], p=[0.1, 0.1, 0.5, 0.28, 0.02]))
            value = float(random.normal())
            if states and stamp_ns < states[-1][0]:
                states.clear()
            states.append((stamp_ns, value))
            buffer.add(stamp_ns, np.array([value]))
            asked_ns = stamp_ns + int(random.integers(-100 * MS, 150 * MS))
            before = [state for state in states if state[0] <= asked_ns]
            if before and asked_ns - before[-1][0] <= round(tolerance_s * 1e9):
                assert buffer.at(asked_ns)[0] == before[-1][1]
            else:
                with pytest.raises(AlignmentError):
                    buffer.at(asked_ns)


def test_how_far_joints_were_since_a_moment_is_told_also_when_they_came_back():
    buffer = StateBuffer(tolerance_s=0.1, keep_s=1.0)
    with pytest.raises(AlignmentError, match="no joint state"):
        buffer.moved_since(0)
    for i, position in enumerate((0.0, 0.3, 0.1, 0.1)):
        buffer.add(i * 100_000_000, np.array([position, 1.0]))
    np.testing.assert_allclose(buffer.moved_since(50_000_000), [0.3, 0.0])
    np.testing.assert_allclose(buffer.moved_since(-1), [0.3, 0.0])
    np.testing.assert_allclose(buffer.moved_since(200_000_000), [0.2, 0.0])
    np.testing.assert_allclose(buffer.moved_since(10**12), [0.0, 0.0])
