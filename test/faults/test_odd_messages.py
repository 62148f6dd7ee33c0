"""Valid messages of odd content on all topics that a node hears: it lives, says little, keeps its limits and size."""

import functools
import re
import time
from pathlib import Path

import pytest
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from support.chain import Chain
from support.odd_messages import Odd, message_type
from support.soundness import assert_sound

from maskact_ros.core.errors import LONGEST

pytestmark = pytest.mark.extended

NODES = ("camera_encoder", "inference", "action_publisher")
SECONDS = 3.0  # of them, in each phase
EVERY_S = 0.01
GROWTH_MIB = 100  # of a process, from before the first phase on
LONGEST_LINE = LONGEST + 300  # with its time and the node's name


class Strangers:
    """Offers every topic that the nodes hear, and knows the last real message of each."""

    def __init__(self, probe, nodes=NODES):
        self._probe = probe
        self._real = {}
        self._publishers = {}
        self._subscriptions = []
        for topic, kind, qos in sorted(heard_topics(probe, nodes).values(), key=lambda each: each[0]):
            self._publishers[topic] = kind, probe.publisher(kind, topic, qos)
            listening = QoSProfile(depth=1, durability=qos.durability, reliability=qos.reliability)
            note = functools.partial(self._note, topic)
            self._subscriptions.append(probe.node.create_subscription(kind, topic, note, listening))

    @property
    def topics(self) -> list[str]:
        return list(self._publishers)

    def send(self, odd: Odd, topic: str) -> None:
        kind, publisher = self._publishers[topic]
        real = self._real.get(topic)
        publisher.publish(serialize_message(odd.message(kind) if real is None else odd.altered(real)))

    def send_for(self, seconds: float, odd: Odd, random) -> None:
        """One after the other on each topic, in another order each time."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for topic in random.permutation(self.topics):
                self.send(odd, str(topic))
                time.sleep(EVERY_S / 4)

    def _note(self, topic: str, real) -> None:
        self._real.setdefault(topic, real)  # the first one, before anybody sent an odd one

    def close(self) -> None:
        self._probe.end(*self._subscriptions, *(publisher for _, publisher in self._publishers.values()))


def heard_topics(probe, nodes) -> dict:
    """Of all nodes, from the graph: a new topic is among them by itself. The type, and a QoS that the node takes."""
    found = {}
    for node in nodes:
        for topic, (kind, *_) in probe.node.get_subscriber_names_and_types_by_node(node, "/maskact"):
            for end in probe.node.get_subscriptions_info_by_topic(topic):
                if end.node_name == node:
                    qos = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
                    qos.liveliness, qos.liveliness_lease_duration = (
                        end.qos_profile.liveliness,
                        end.qos_profile.liveliness_lease_duration,
                    )
                    found[topic] = topic, message_type(kind), qos
    return found


def size_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.fixture(scope="module")
def chain(tmp_path_factory, policy, robot):
    with Chain.start(tmp_path_factory.mktemp("chain"), policy, robot) as opened:
        yield opened


@pytest.fixture(scope="module")
def sizes():
    """Of each process before the first phase, in MiB."""
    return {}


def assert_said_little(outputs: dict[str, str]) -> None:
    for node, output in outputs.items():
        assert "Traceback" not in output, output
        assert "a bug in maskact_ros" not in output, output
        for line in output.splitlines():
            assert line.isprintable(), f"{node} said {line!r}"
            assert len(line) < LONGEST_LINE, f"{node} said {len(line)} letters: {line[:200]}"
            assert "forged" not in line or not line.startswith("[ERROR] [1.0]"), line


def test_odd_messages_end_no_node_and_move_nothing_beyond_limits(chain, sizes, phase):
    chain.move()
    programs = {**chain.vision.programs, "action_publisher": chain.publisher}
    said = {node: len(program.output) for node, program in programs.items()}
    for node, program in programs.items():
        sizes.setdefault(node, size_mib(program.pid))
    strangers = Strangers(chain.probe)
    assert len(strangers.topics) >= 9, strangers.topics
    strangers.send_for(SECONDS, Odd(phase.random), phase.random)
    strangers.close()
    for node, program in programs.items():
        assert program.running, program.output
        chain.probe.wait_for_report(node, lambda _: True, f"{node} to say how it is")
    assert_said_little({node: program.output[said[node] :] for node, program in programs.items()})
    for node, program in programs.items():
        grown = size_mib(program.pid) - sizes[node]
        assert grown < GROWTH_MIB, f"{node} has grown by {grown:.0f} MiB"
    assert_sound(chain.arm.commands[chain.began :], chain.vision.robot, breaks=[i - chain.began for i in chain.breaks])
    # The last state that was heard is one of the publisher's again.
    chain.probe.wait(lambda: chain.probe.enable(False).success, "being disabled")
    chain.arm.wait_for_rest()
    known = len(chain.arm.states)
    chain.probe.wait(lambda: chain.probe.reset("action_publisher").success, "a new epoch")
    chain.probe.wait(lambda: len(chain.arm.states) > known and chain.rung in ("idle", "disabled"), "its state")


def test_odd_messages_end_neither_the_simulated_robot_nor_the_expert(bench, phase):
    probe = bench.probe
    programs = {node: bench.start_active(node) for node in ("sim_robot", "expert")}
    strangers = Strangers(probe, tuple(programs))
    assert len(strangers.topics) >= 3, strangers.topics
    strangers.send_for(SECONDS, Odd(phase.random), phase.random)
    strangers.close()
    for node, program in programs.items():
        assert program.running, program.output
        probe.wait_for_report(node, lambda _: True, f"{node} to say how it is")
    assert_said_little({node: program.output for node, program in programs.items()})


def test_times_that_no_clock_shows_end_no_node(bench, phase):
    probe = bench.probe
    programs = {node: bench.start(node, use_sim_time=True) for node in NODES}
    for node, program in programs.items():
        bench.wait_until_active(node, program)
    clock, odd = probe.publisher(Clock, "/clock", QoSProfile(depth=1)), Odd(phase.random)
    for _ in range(100):
        clock.publish(odd.message(Clock))
        time.sleep(EVERY_S)
    for node, program in programs.items():
        assert program.running, program.output
        probe.wait_for_report(node, lambda _: True, f"{node} to say how it is")
    assert any("the time on /clock is" in program.output for program in programs.values())
    assert_said_little({node: program.output for node, program in programs.items()})
