"""A polled subscription hands over what came, in order and with its age, and lets the executor sleep."""

import time

import pytest
from rclpy.serialization import deserialize_message
from std_msgs.msg import Int64
from support.node_bench import BEST_EFFORT, RELIABLE

from maskact_ros.nodes.ros.polled import PolledSubscription
from maskact_ros.nodes.ros.receipt import ReceiptClock


@pytest.fixture
def polled(bench):
    """A function: a polled subscription of the probe's node, to the topic `numbers`; the node's executor spins."""
    made = []

    def make(qos) -> PolledSubscription:
        made.append(PolledSubscription(bench.probe.node, Int64, "numbers", qos))
        return made[-1]

    yield make
    for subscription in made:
        subscription.destroy()


def all_of(subscription: PolledSubscription) -> list[int]:
    taken = []
    while (each := subscription.take()) is not None:
        taken.append(deserialize_message(each[0], Int64).data)
    return taken


def send(bench, count: int, qos) -> None:
    publisher = bench.probe.publisher(Int64, "numbers", qos)
    bench.probe.wait(publisher.get_subscription_count, "the subscription to be found")
    for number in range(count):
        publisher.publish(Int64(data=number))


def test_what_came_is_taken_in_order_and_once(bench, polled):
    subscription = polled(RELIABLE)
    assert subscription.take() is None
    send(bench, 50, RELIABLE)
    taken = []
    bench.probe.wait(lambda: taken.extend(all_of(subscription)) or len(taken) >= 50, "all that was sent")
    assert taken == list(range(50))
    assert subscription.take() is None


def test_its_age_is_counted_from_when_it_came_and_not_from_when_it_was_taken(bench, polled):
    subscription = polled(BEST_EFFORT)
    send(bench, 1, BEST_EFFORT)
    before_s = time.monotonic()
    time.sleep(0.3)
    taken = bench.probe.wait(subscription.take, "what was sent")
    most_s = time.monotonic() - before_s
    assert 0.2 < taken[1] / 1e9 <= most_s + 0.05


def test_a_stamp_of_receipt_is_when_it_came_and_never_before_the_last_unless_the_clock_was_set_back():
    readings_ns = iter([5_000_000_000, 5_010_000_000, 5_012_000_000, 1_000_000_000, 1_020_000_000])
    clock = ReceiptClock(lambda: next(readings_ns))
    ages_ns = [1_000_000, 2_000_000, 9_000_000, 3_000_000, 1_000_000]
    assert [clock.stamp_ns(age_ns) for age_ns in ages_ns] == [
        4_999_000_000,
        5_008_000_000,
        5_008_000_000,  # 5.003: this reading was late
        997_000_000,
        1_019_000_000,
    ]
