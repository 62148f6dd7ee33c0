"""`MessagesFirst`: rclpy's single-threaded executor, but a message's callback follows the wait at once.

In: nodes whose entities are made and destroyed in the executor's own thread. Out: their callbacks, in that thread.
"""

from __future__ import annotations

from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription
from rclpy.utilities import timeout_sec_to_nsec
from rclpy.waitable import NumberOfEntities


class MessagesFirst(SingleThreadedExecutor):  # type: ignore[misc]
    """Waits and takes messages by itself; timers, services, clients, guard conditions and events are left to rclpy.

    rclpy protects each entity against other threads before each wait, waits twice for each callback, since each wakes
    the executor once more, and runs it as a coroutine in a task: for a node of ours, a millisecond for each message.
    """

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait once, and run all callbacks that are ready; raises what they raise."""
        if self._tasks or self._serve_messages(timeout_sec):
            self._serve_others()

    def _serve_messages(self, timeout_sec: float | None) -> bool:
        """Wait, and run the callbacks of the messages that came; whether anything else is ready, too."""
        nodes = self.get_nodes()
        subscriptions = {each.handle.pointer: each for node in nodes for each in node.subscriptions}
        guards = {each.handle.pointer: each for node in nodes for each in node.guards}
        own_guards = [guard.handle for guard in (self._guard, self._sigint_gc) if guard]
        timers = [each.handle for node in nodes for each in node.timers]
        clients = [each.handle for node in nodes for each in node.clients]
        services = [each.handle for node in nodes for each in node.services]
        waitables = [each for node in nodes for each in node.waitables]
        count = NumberOfEntities(
            len(subscriptions), len(guards) + len(own_guards), len(timers), len(clients), len(services)
        )
        for waitable in waitables:
            count += waitable.get_num_entities()
        wait_set = rclpy_implementation.WaitSet(
            count.num_subscriptions,
            count.num_guard_conditions,
            count.num_timers,
            count.num_clients,
            count.num_services,
            count.num_events,
            self._context.handle,
        )
        wait_set.clear_entities()
        for subscription in subscriptions.values():
            wait_set.add_subscription(subscription.handle)
        for guard in [*(guard.handle for guard in guards.values()), *own_guards]:
            wait_set.add_guard_condition(guard)
        for timer in timers:
            wait_set.add_timer(timer)
        for client in clients:
            wait_set.add_client(client)
        for service in services:
            wait_set.add_service(service)
        for waitable in waitables:
            waitable.add_to_wait_set(wait_set)
        wait_set.wait(timeout_sec_to_nsec(timeout_sec))

        for pointer in wait_set.get_ready_entities("subscription"):
            if pointer in subscriptions:
                _serve(subscriptions[pointer])
        # The wait has used these two up; marked, they are ready for rclpy's next wait, too.
        triggered = [guards[pointer] for pointer in wait_set.get_ready_entities("guard_condition") if pointer in guards]
        for guard in triggered:
            guard._executor_triggered = True
        occurred = [waitable for waitable in waitables if waitable.is_ready(wait_set)]
        return bool(
            triggered
            or occurred
            or wait_set.get_ready_entities("timer")
            or wait_set.get_ready_entities("client")
            or wait_set.get_ready_entities("service")
        )

    def _serve_others(self) -> None:
        while True:
            try:
                handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0.0)
            except (TimeoutException, ShutdownException):
                return
            handler()
            handler.result()


def _serve(subscription: Subscription[Any]) -> None:
    try:
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    except InvalidHandle:
        return  # destroyed by the callback before
    if taken is None:
        return
    message_only = subscription._callback_type is Subscription.CallbackType.MessageOnly
    subscription.callback(*(taken[:1] if message_only else taken))
