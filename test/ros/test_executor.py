"""Whatever a node waits for is served, as rclpy's own executor would."""

import time

import pytest
import rclpy
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from maskact_ros.nodes.executor import MessagesFirst
from maskact_ros.nodes.isolation import IsolatedDomain


@pytest.fixture
def node():
    domain, context = IsolatedDomain(), Context()
    rclpy.init(args=[], context=context, domain_id=domain.id)
    node = Node("served", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)
    domain.close()


@pytest.fixture
def executor(node):
    executor = MessagesFirst(context=node.context)
    executor.add_node(node)
    yield executor
    executor.shutdown()


def serve(executor, condition, within_s: float = 20.0) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        executor.spin_once(timeout_sec=0.1)


def test_everything_that_a_node_waits_for_is_served(node, executor):
    served = set()
    node.create_subscription(
        String,
        "words",
        lambda message: served.add(message.data),
        1,
        event_callbacks=SubscriptionEventCallbacks(matched=lambda info: served.add("event")),
    )
    node.create_subscription(String, "words", lambda _, info: served.add(type(info["source_timestamp"])), 1)
    node.create_subscription(String, "words", lambda raw: served.add(type(raw)), 1, raw=True)
    publisher = node.create_publisher(String, "words", 1)
    node.create_timer(0.01, lambda: (served.add("timer"), publisher.publish(String(data="message"))))
    node.create_guard_condition(lambda: served.add("guard")).trigger()
    node.create_service(Trigger, "ask", lambda _, response: response)
    client = node.create_client(Trigger, "ask")
    assert client.wait_for_service(20.0)
    client.call_async(Trigger.Request()).add_done_callback(lambda _: served.add("response"))
    executor.create_task(lambda: served.add("task"))
    expected = {"message", "event", int, bytes, "timer", "guard", "response", "task"}
    serve(executor, lambda: served == expected)


def test_a_guard_condition_is_served_whether_or_not_a_message_comes_with_it(node, executor):
    served = []
    node.create_subscription(String, "words", lambda _: served.append("message"), 1)
    guard = node.create_guard_condition(lambda: served.append("guard"))
    publisher = node.create_publisher(String, "words", 1)
    serve(executor, lambda: publisher.get_subscription_count() == 1)
    for _ in range(20):
        served.clear()
        publisher.publish(String())
        guard.trigger()
        serve(executor, lambda: sorted(served) == ["guard", "message"])


def test_a_subscription_that_another_ones_callback_destroys_hears_no_more(node, executor):
    heard = []
    first = [node.create_subscription(String, "words", lambda _: (heard.append(0), drop(1)), 1)]
    first.append(node.create_subscription(String, "words", lambda _: (heard.append(1), drop(0)), 1))

    def drop(other):
        assert node.destroy_subscription(first[other])

    publisher = node.create_publisher(String, "words", 1)
    serve(executor, lambda: publisher.get_subscription_count() == 2)
    publisher.publish(String())
    serve(executor, lambda: heard)
    for _ in range(5):
        executor.spin_once(timeout_sec=0.1)
    assert len(heard) == 1


@pytest.mark.parametrize("kind", ["message", "timer"])
def test_what_a_callback_raises_is_raised(node, executor, kind):
    def fail(*_):
        raise ZeroDivisionError(kind)

    publisher = node.create_publisher(String, "words", 1)
    if kind == "message":
        node.create_subscription(String, "words", fail, 1)
        serve(executor, lambda: publisher.get_subscription_count() == 1)
        publisher.publish(String())
    else:
        node.create_timer(0.01, fail)
    with pytest.raises(ZeroDivisionError, match=kind):
        serve(executor, lambda: False)


def test_a_wait_ends_in_time_and_when_the_executor_is_woken(node, executor):
    executor.spin_once(timeout_sec=0.0)
    executor.wake()
    executor.spin_once(timeout_sec=60.0)
    executor.spin_once(timeout_sec=0.001)
