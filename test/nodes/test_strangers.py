"""What a stranger sends to a running action publisher is refused in a short sentence, and commands go on.

How many commands a second come meanwhile is measured: `maskact bench control --floods`.
"""

import json
import sys

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from support.node_bench import LATCHED
from support.stand_ins import Arm, Planner
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.align import JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.errors import LONGEST
from maskact_ros.nodes.ros.control_cdr import MOST_NAMES, MOST_POINTS, ChunkReader, JointStateReader
from maskact_ros.nodes.ros.messages import MessageError, chunk_to_message
from maskact_ros.nodes.ros.policy_swap import Standing
from maskact_ros.nodes.ros.serving import Allowance

NAMES = ("pan", "lift")
SECOND = """
import rclpy
from trajectory_msgs.msg import JointTrajectory
rclpy.init()
node = rclpy.create_node("second_planner", namespace="/elsewhere")
publisher = node.create_publisher(JointTrajectory, "/maskact/action_chunk", 1)
rclpy.spin(node)
"""


@pytest.fixture(scope="module")
def running(module_bench, robot):
    arm, planner = Arm(module_bench.probe, robot), Planner(module_bench.probe, robot)
    program = module_bench.start_active("action_publisher", hold_timeout_s=60.0)
    arm.wait_for_measurements(5)
    module_bench.probe.wait(lambda: module_bench.probe.enable().success, "being enabled")
    planner.send(np.tile(arm.middle, (600, 1)))
    arm.wait_for_rung("following")
    return module_bench, arm, program


def too_many_points(robot) -> JointTrajectory:
    actions = np.zeros((60_000, len(robot.joints)))
    return chunk_to_message(Chunk(0, 10_000_000, actions), robot.joint_names)


LARGE = {
    "action_chunk": (JointTrajectory, too_many_points),
    "joint_states": (JointState, lambda _: JointState(name=[f"joint_{i}" for i in range(150_000)])),
    "policy": (String, lambda _: String(data=json.dumps({"node": "n" * 2_500_000}))),
    "command/driver": (String, lambda _: String(data="d" * 2_500_000)),
}


@pytest.mark.parametrize("topic", LARGE)
def test_a_message_of_megabytes_is_refused_by_its_bytes(running, robot, topic):
    bench, arm, program = running
    kind, make = LARGE[topic]
    said, data = len(program.output), serialize_message(make(robot))
    publisher = bench.probe.publisher(kind, topic, LATCHED)
    bench.probe.wait(publisher.get_subscription_count, "the topic to be heard")
    sending = bench.probe.every(0.05, lambda: publisher.publish(data))  # as the arm's own may take the place of one
    bench.probe.wait(lambda: f"has {len(data)} bytes; allowed: at most" in program.output[said:], f"{topic} refused")
    bench.probe.end(sending)
    arm.wait_for_commands(50)
    bench.probe.end(publisher)
    assert max(map(len, program.output[said:].splitlines())) < LONGEST + 300


def test_a_second_source_of_chunks_is_named_and_none_is_followed(running):
    bench, *_ = running
    other = bench.run([sys.executable, "-c", SECOND])
    try:
        report = bench.probe.wait_for_problem("action_publisher", "2 nodes send /maskact/action_chunk")
        assert "/maskact/probe" in report.message
        assert "/elsewhere/second_planner" in report.message
        response = bench.probe.enable()
        assert not response.success
        assert "2 nodes send /maskact/action_chunk" in response.message
    finally:
        other.kill()


@pytest.mark.parametrize(("points", "most"), [(MOST_POINTS + 1, MOST_POINTS), (7, 6), (30_000, 2000)])
@pytest.mark.parametrize("turned", [False, True], ids=["native", "other byte order"])
def test_a_chunk_of_too_many_points_is_refused_before_it_is_parsed(points, most, turned):
    data = serialize_message(chunk_to_message(Chunk(0, 1_000_000, np.zeros((points, 2))), NAMES))
    if turned:  # the counts alone: nothing behind them is looked at
        data = b"\0\0\0\0" + bytes(8) + b"\0\0\0\0" + (0).to_bytes(4, "big") + points.to_bytes(4, "big") + bytes(99)
    with pytest.raises(MessageError, match=f"the chunk has {points} points; allowed: at most {most}"):
        ChunkReader(JointOrder(NAMES), most).read(data)


def test_a_joint_state_of_too_many_names_is_refused_before_it_is_parsed():
    for count in (MOST_NAMES + 1, 4000):
        data = serialize_message(JointState(name=["n"] * count, position=[0.0] * count))
        with pytest.raises(MessageError, match=f"has {count} joint names; allowed: at most {MOST_NAMES}"):
            JointStateReader(JointOrder(NAMES)).read(data)


GOOD = {"node": "inference", "swap": "", "phase": "running", "path": "a", "reason": ""}


@pytest.mark.parametrize(
    "odd",
    [
        {"swap": "soon"},
        {"swap": "99999999999999999999-inference"},
        {"swap": f"{2**63:020}-inference"},
        {"swap": "١٢٣-inference"},
        {"node": "a\nb"},
        {"node": "n" * 10_000},
        {"path": "\ud800"},
        {"path": "p" * 5000},
        {"phase": "done"},
        {"reason": 7},
        {"more": "x"},
    ],
    ids=str,
)
def test_a_standing_that_no_node_sends_is_refused(odd):
    assert Standing.from_message(String(data=json.dumps(GOOD))).node == "inference"
    with pytest.raises(MessageError, match="the standing is"):
        Standing.from_message(String(data=json.dumps(GOOD | odd)))


@pytest.mark.parametrize(("share", "took_s"), [(0.025, 0.02), (0.3, 0.001), (0.1, 0.05)])
def test_an_allowance_gives_its_share_and_a_burst_and_no_long_rest(share, took_s):
    allowance, now_s, worked_s = Allowance(share, 0.1), 100.0, 0.0
    for _ in range(int(0.1 / took_s)):
        assert allowance.rest_after(took_s, now_s) == pytest.approx(0.0, abs=0.02 / share)
    began_s = now_s
    for _ in range(1000):
        rest_s = allowance.rest_after(took_s, now_s)
        assert 0.0 <= rest_s <= 0.5
        now_s, worked_s = now_s + took_s + rest_s, worked_s + took_s
    assert worked_s / (now_s - began_s) < max(share, took_s / (took_s + 0.5)) * 1.1
    assert allowance.rest_after(took_s, now_s + 1000.0) == 0.0
