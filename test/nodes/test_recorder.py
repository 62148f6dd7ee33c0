"""`maskact record`: the live graph into bags, byte for byte."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.duration import Duration
from rclpy.serialization import serialize_message
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image, JointState
from shape_msgs.msg import Mesh
from std_msgs.msg import Float64MultiArray, Header
from support.node_bench import BEST_EFFORT, LATCHED, Bench
from support.stand_ins import without_events

from maskact_ros.core.paths import shared
from maskact_ros.nodes.ros.messages import image_to_message

CONTRACT = str(shared("config/contract.yaml"))


def start_recording(bench: Bench, bag: Path, *options: str, **environment: str):
    command = [sys.executable, "-m", "maskact_ros.cli", "record", "--contract", CONTRACT, "--out", str(bag), *options]
    return bench.run(command, **environment)


def raw_messages(bag: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Topic to messages as bytes, with the moment they were received."""
    with Reader(bag) as reader:
        found: dict[str, list] = {connection.topic: [] for connection in reader.connections}
        for connection, received_ns, raw in reader.messages():
            found[connection.topic].append((received_ns, bytes(raw)))
    return found


def mcap_of(bag: Path) -> Path:
    return bag / f"{bag.name}.mcap"


@pytest.mark.parametrize(("storage", "number"), [("mcap", signal.SIGINT), ("sqlite3", signal.SIGTERM)])
def test_what_is_published_is_in_the_bag_byte_for_byte_and_the_bag_is_closed(bench, tmp_path, storage, number):
    bag, probe = tmp_path / "bag", bench.probe
    program = start_recording(bench, bag, "--storage", storage)
    joints = probe.publisher(JointState, "joint_states")
    images = probe.publisher(CompressedImage, "image_raw/compressed")  # nobody publishes image_raw
    probe.wait(lambda: joints.get_subscription_count() and images.get_subscription_count(), "the recorder")
    states = [serialize_message(JointState(name=["a"], position=[float(i)])) for i in range(50)]
    picture = serialize_message(CompressedImage(format="jpeg", data=[1, 2, 3, 4]))
    before_ns = probe.now_ns()
    images.publish(picture)
    for state in states:
        joints.publish(state)
    assert joints.wait_for_all_acked(Duration(seconds=30))
    assert images.wait_for_all_acked(Duration(seconds=30))
    after_ns = probe.now_ns()
    program.send(number)
    assert program.wait() == 1, program.output  # other topics brought nothing
    messages = raw_messages(bag)
    assert [raw for _, raw in messages["/maskact/joint_states"]] == states
    assert [raw for _, raw in messages["/maskact/image_raw/compressed"]] == [picture]
    received = [received_ns for received_ns, _ in messages["/maskact/joint_states"]]
    assert before_ns <= received[0] <= received[-1] <= after_ns
    assert received == sorted(received)
    assert "nothing came on /maskact/mask_truth, /maskact/command" in program.output


@pytest.mark.extended
def test_where_nobody_tells_of_lost_messages_it_says_so_and_records(bench, tmp_path):
    bag, probe = tmp_path / "bag", bench.probe
    program = start_recording(bench, bag, PYTHONPATH=without_events(tmp_path))
    joints = probe.publisher(JointState, "joint_states")
    probe.wait(joints.get_subscription_count, "the recorder")
    state = serialize_message(JointState(name=["a"], position=[0.25]))
    joints.publish(state)
    assert joints.wait_for_all_acked(Duration(seconds=30))
    program.send(signal.SIGINT)
    assert program.wait() == 1, program.output  # other topics brought nothing
    assert [raw for _, raw in raw_messages(bag)["/maskact/joint_states"]] == [state]
    assert "/maskact/joint_states: this RMW does not tell how many messages are lost" in program.output


def test_what_each_publisher_offers_is_heard_and_stands_in_the_bag(bench, tmp_path):
    bag, probe = tmp_path / "bag", bench.probe
    program = start_recording(bench, bag)
    images = probe.publisher(Image, "image_raw", BEST_EFFORT)
    commands = probe.publisher(Float64MultiArray, "command", LATCHED)
    message = serialize_message(image_to_message(np.zeros((480, 640, 3), np.uint8), "rgb8", Header()))
    probe.every(0.05, lambda: images.publish(message))
    commands.publish(Float64MultiArray(data=[1.0]))
    probe.wait(lambda: mcap_of(bag).exists() and mcap_of(bag).stat().st_size > 2_000_000, "images in the file")
    assert commands.wait_for_all_acked(Duration(seconds=30))
    program.send(signal.SIGINT)
    assert program.wait() == 1, program.output  # other topics brought nothing
    messages = raw_messages(bag)
    assert {raw for _, raw in messages["/maskact/image_raw"]} == {message}
    assert len(messages["/maskact/command"]) == 1
    with Reader(bag) as reader:
        offers = {connection.topic: connection.ext.offered_qos_profiles[0] for connection in reader.connections}
    assert offers["/maskact/image_raw"].reliability == QosReliability.BEST_EFFORT
    assert offers["/maskact/command"].durability == QosDurability.TRANSIENT_LOCAL


def test_it_ends_by_itself_after_the_seconds_it_was_given(bench, tmp_path):
    program = start_recording(bench, tmp_path / "bag", "--seconds", "0.5")
    joints = bench.probe.publisher(JointState, "joint_states")
    bench.probe.every(0.01, lambda: joints.publish(JointState()))
    assert program.wait() == 1, program.output  # other topics brought nothing
    stamps = [received_ns for received_ns, _ in raw_messages(tmp_path / "bag")["/maskact/joint_states"]]
    assert 0.3e9 < stamps[-1] - stamps[0] < 3e9


def test_a_bag_is_never_overwritten(bench, tmp_path):
    (tmp_path / "bag").mkdir()
    program = start_recording(bench, tmp_path / "bag")
    assert program.wait() == 1
    assert f"{tmp_path / 'bag'} exists already" in program.output
    assert "Traceback" not in program.output
    assert not list((tmp_path / "bag").iterdir())


def test_without_a_message_there_is_no_bag_and_one_sentence_why(bench, tmp_path):
    program = start_recording(bench, tmp_path / "bag")
    bench.probe.wait(mcap_of(tmp_path / "bag").exists, "the recorder")
    bench.probe.wait(lambda: "maskact_record" in bench.probe.node.get_node_names(), "its node")
    program.send(signal.SIGINT)
    assert program.wait() == 1
    assert "nothing came on /maskact/image_raw or /maskact/image_raw/compressed, /maskact/mask_truth" in program.output
    assert not (tmp_path / "bag").exists()


def test_a_refusal_before_the_first_message_leaves_no_bag_so_that_the_corrected_command_works(bench, tmp_path):
    absent = tmp_path / "absent" / "shape_msgs"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError")
    bench.probe.publisher(Mesh, "command")
    program = start_recording(bench, tmp_path / "bag", PYTHONPATH=str(absent.parent))
    assert program.wait() == 1
    assert "/maskact/command is of the type shape_msgs/msg/Mesh, which is not installed here" in program.output
    assert "Traceback" not in program.output
    assert not (tmp_path / "bag").exists()
