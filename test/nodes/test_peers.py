"""A peer that falls silent is noticed, also one that DDS says nothing of; and one that lives is not called lost.

On a busy machine a peer may truly give no sign of life for a tenth of a second, and be found again: so the tests look
at who is missing in the end, and not at how often someone was.
"""

import signal
import sys
import time

import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSLivelinessPolicy, QoSProfile
from std_msgs.msg import Empty, String
from support.stand_ins import PEER

from maskact_ros.nodes.command.sole_driver import MOST_OTHERS, SoleDriver
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.peers import BEAT_S, LEASE_NS, SILENT_BEATS, Peers

# Gives a sign of life only when told to: the same as a process that is stopped between being found and its first one.
ON_DEMAND = QoSProfile(
    depth=1,
    liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(nanoseconds=LEASE_NS),
)
DRIVER = """
import rclpy
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.command.sole_driver import SoleDriver
rclpy.init()
node = ManagedNode("driver", ())
driver = SoleDriver(node, "command", lambda: print("gives way", flush=True))
node.create_steady_timer(0.1, lambda: print(f"hears {driver.others}", flush=True))
rclpy.spin(node)
"""


class Listener:
    """A node of this process that hears the peer, and what it was told."""

    def __init__(self, name: str):
        self.told: list[str] = []
        self.node = ManagedNode(name, ())
        self.peers = Peers(
            self.node, ("peer",), lost=lambda _: self.told.append("lost"), found=lambda _: self.told.append("found")
        )


@pytest.fixture
def listen(bench):
    """A function that adds a listener, and one that lets them all listen until a condition holds."""
    rclpy.init(args=[], domain_id=bench.domain.id)
    executor = SingleThreadedExecutor()
    nodes = []

    def add(name: str) -> Listener:
        listener = Listener(name)
        nodes.append(listener.node)
        executor.add_node(listener.node)
        return listener

    def until(condition, what: str, within_s: float = 20.0) -> None:
        until_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until_s, f"waited {within_s:g} s in vain for {what}"
            executor.spin_once(timeout_sec=0.05)

    yield add, until
    executor.shutdown()
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def alive(listener: Listener) -> bool:
    return listener.node.diagnostics._values["peer_peer"] == "alive"


def test_who_is_found_but_never_gives_a_sign_of_life_is_lost_until_it_gives_one(bench):
    program = bench.start_active("action_publisher")
    inference = bench.probe.publisher(Empty, "inference/alive", ON_DEMAND)
    bench.probe.wait_for_problem("action_publisher", f"inference gave no sign of life for {SILENT_BEATS * BEAT_S:g} s")
    response = bench.probe.enable()
    assert "inference gave no sign of life" in response.message
    assert not response.success

    inference.publish(Empty())
    bench.probe.wait(lambda: "inference lives again" in program.output, "a line about its life")
    bench.probe.wait_for_problem("action_publisher", "inference gave no sign of life for 0.1 s")


def test_who_lives_is_not_lost_though_dds_never_said_that_it_lives_and_its_silence_is_noticed_all_the_same(
    bench, listen
):
    add, until = listen
    peer = bench.run([sys.executable, "-c", PEER, "peer"])
    first = add("first")
    until(lambda: alive(first), "the first to hear the peer")
    # Fast DDS says that a writer lives when that changes: a second reader in the process is never told of it.
    second = add("second")
    until(lambda: alive(second), "the second to hear the peer")
    beats = []
    timer = second.node.create_steady_timer(BEAT_S, lambda: beats.append(None))
    until(lambda: len(beats) > SILENT_BEATS + 2, "time to pass")
    second.node.destroy_timer(timer)
    assert first.peers.missing == second.peers.missing == []

    for number, told in ((signal.SIGSTOP, "lost"), (signal.SIGCONT, "found")) * 2:
        peer.send(number)
        until(lambda told=told: first.told[-1:] == second.told[-1:] == [told], f"both to be told {told}")


def test_a_short_silence_is_a_warning_and_one_that_lasts_an_error(bench, listen):
    add, until = listen
    peer = bench.run([sys.executable, "-c", PEER, "peer"])
    listener = add("listener")
    until(lambda: alive(listener), "the peer to be heard")
    diagnostics = listener.node.diagnostics
    levels = []

    def look() -> None:
        if listener.peers.missing:
            levels.append(diagnostics._problems["peers peer"].level)

    listener.node.create_steady_timer(0.01, look)
    for stopped, last in ((False, diagnostics.WARN), (True, diagnostics.ERROR)) * 2:
        levels.clear()
        peer.send(signal.SIGSTOP)
        until(lambda: listener.peers.missing and levels, "being told that it is lost")
        assert levels[0] == diagnostics.WARN
        if stopped:
            until(lambda: levels[-1] == diagnostics.ERROR, "an error")
        peer.send(signal.SIGCONT)
        until(lambda: not listener.peers.missing, "being told that it is found")
        assert levels[-1] == last


@pytest.mark.extended
def test_who_is_restarted_is_not_lost_when_dds_forgets_the_one_that_was_killed(bench, listen):
    add, until = listen
    peer = bench.run([sys.executable, "-c", PEER, "peer"])
    listener = add("listener")
    until(lambda: alive(listener), "the peer to be heard")
    peer.send(signal.SIGKILL)
    until(lambda: listener.peers.missing, "being told that it is lost")
    peer = bench.run([sys.executable, "-c", PEER, "peer"])
    until(lambda: not listener.peers.missing, "being told that it is found")
    until(lambda: listener.peers._offers["peer"] == 1, "the killed one to be forgotten", within_s=40.0)
    beats = []
    listener.node.create_steady_timer(BEAT_S, lambda: beats.append(None))
    until(lambda: len(beats) > SILENT_BEATS + 2, "time to pass")
    assert listener.peers.missing == []

    peer.send(signal.SIGSTOP)
    until(lambda: listener.peers.missing, "being told that it is lost")


def test_of_two_drivers_the_younger_gives_way_also_when_they_meet_late(bench, listen):
    add, until = listen
    elder = bench.run([sys.executable, "-c", DRIVER])
    until(lambda: "hears 0" in elder.output, "the elder to be there")
    elder.send(signal.SIGSTOP)
    younger_gave_way, beats = [], []
    younger = add("younger").node
    driver = SoleDriver(younger, "command", lambda: younger_gave_way.append(True))
    younger.create_steady_timer(BEAT_S, lambda: beats.append(None))
    until(lambda: len(beats) > 12, "more than five seconds to pass")
    assert (driver.others, younger_gave_way) == (0, [])

    elder.send(signal.SIGCONT)
    until(lambda: driver.others == 1 and "hears 1" in elder.output, "them to hear each other")
    assert younger_gave_way == [True]
    assert "gives way" not in elder.output


def test_drivers_that_strangers_make_up_do_not_pile_up(listen):
    add, _ = listen
    driver = SoleDriver(add("one").node, "command", lambda: None)
    began_after_us = 9 * 10**18
    for number in range(20_000):
        driver._hear(String(data=f"{began_after_us:020} {number:032x}"))
    assert driver.others == len(driver._heard_s) == MOST_OTHERS
    for text in (
        "",
        "x" * 3000,
        "soon " + "0" * 32,
        f"{began_after_us:020} {'F' * 32}",
        f"{began_after_us:020}\n{'0' * 32}",
    ):
        driver._hear(String(data=text))
    assert driver.others == MOST_OTHERS
