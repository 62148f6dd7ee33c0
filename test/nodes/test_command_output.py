"""What goes out on `command` and to each controller: whole or in parts, set points or trajectories, by a real node."""

from dataclasses import replace

import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float64MultiArray
from support.node_bench import NAMESPACE, Probe
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.robot import Controller, RobotError
from maskact_ros.nodes.command.command_output import PositionOutput, TrajectoryOutput
from maskact_ros.tools.isolation import IsolatedDomain

STEP_NS = 1_500_000_000


@pytest.fixture(scope="module")
def domain():
    with_id = IsolatedDomain()
    yield with_id
    with_id.close()


@pytest.fixture
def probe(domain):
    opened = Probe(domain.id)
    yield opened
    opened.close()


@pytest.fixture
def node(probe):
    """A node that may publish, as it is active; `command` is remapped, as bringup does it."""
    remapping = ["--ros-args", "-r", "command:=/arm/command"]
    opened = LifecycleNode("sender", namespace=NAMESPACE, context=probe.context, cli_args=remapping)
    opened.trigger_configure()
    yield opened
    opened.destroy_node()


@pytest.fixture
def shared(robot):
    """The robot with an arm's controller, which has the joints in an order of its own, and a hand's."""
    arm, hand = robot.joint_names[:-1], robot.joint_names[-1:]
    return replace(
        robot,
        controllers=(
            Controller(command_topic="arm_controller/commands", joints=tuple(reversed(arm))),
            Controller(command_topic="/hand/commands", joints=hand),
        ),
    )


def sent(probe, node, output, kind, topics, publish):
    """What arrives on each topic when the output publishes once."""
    heard = [probe.hear(kind, topic) for topic in topics]
    node.trigger_activate()
    probe.wait(
        lambda: all(node.count_subscribers(topic) and probe.node.count_publishers(topic) for topic in topics),
        "the topics to be connected",
    )
    # Discovery of a topic by the node and the match of its publisher are two events: send until all have heard.
    probe.wait(lambda: publish() or all(heard), "a message on each topic")
    output.destroy()
    return [messages[-1].message for messages in heard]


def test_set_points_go_out_whole_and_to_each_controller_its_part(probe, node, shared):
    set_point = np.arange(7.0) + 0.5
    output = PositionOutput(node, shared)
    topics = ["/arm/command", f"{NAMESPACE}/arm_controller/commands", "/hand/commands"]
    whole, arm, hand = sent(probe, node, output, Float64MultiArray, topics, lambda: output.publish(set_point))
    assert list(whole.data) == set_point.tolist()
    assert list(arm.data) == [5.5, 4.5, 3.5, 2.5, 1.5, 0.5]
    assert list(hand.data) == [6.5]


def test_trajectories_go_out_whole_and_to_each_controller_its_part(probe, node, shared):
    positions = np.arange(4.0)[:, None] ** 2 + np.arange(7.0)
    velocities = 2.0 * np.arange(4.0)[::-1, None] + np.arange(7.0)
    output = TrajectoryOutput(node, shared)
    topics = ["/arm/command", f"{NAMESPACE}/arm_controller/commands", "/hand/commands"]
    publish = lambda: output.publish(positions, velocities, STEP_NS)  # noqa: E731
    messages = sent(probe, node, output, JointTrajectory, topics, publish)
    names = (shared.joint_names, *(controller.joints for controller in shared.controllers))
    for message, joints in zip(messages, names, strict=True):
        assert tuple(message.joint_names) == joints
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
        columns = [shared.joint_names.index(name) for name in joints]
        np.testing.assert_array_equal([list(point.positions) for point in message.points], positions[:, columns])
        np.testing.assert_array_equal([list(point.velocities) for point in message.points], velocities[:, columns])
        times = [(point.time_from_start.sec, point.time_from_start.nanosec) for point in message.points]
        assert times == [(0, 0), (1, 500_000_000), (3, 0), (4, 500_000_000)]


def test_a_horizon_may_grow_and_shrink_and_change_its_step(probe, node, robot):
    output = TrajectoryOutput(node, robot)
    heard = probe.hear(JointTrajectory, "/arm/command")
    node.trigger_activate()
    hold = np.zeros((1, 7))
    probe.wait(lambda: output.publish(hold, hold, STEP_NS) or heard, "the first trajectory")
    rounds = [(5, 10), (2, 10), (8, 10), (3, 20), (3, 10), (1, 10)]
    random = np.random.default_rng(0)
    for count, step_ms in rounds:
        positions = random.random((count, 7))
        output.publish(positions, -positions, step_ms * 1_000_000)

        def arrived(positions=positions):
            points = heard[-1].message.points
            return len(points) == len(positions) and list(points[0].positions) == positions[0].tolist()

        probe.wait(arrived, f"{count} points")
        points = heard[-1].message.points
        np.testing.assert_array_equal([list(point.positions) for point in points], positions)
        np.testing.assert_array_equal([list(point.velocities) for point in points], -positions)
        times_ms = [point.time_from_start.nanosec // 1_000_000 for point in points]
        assert times_ms == [step_ms * i for i in range(count)]
    output.destroy()


def test_a_robot_without_controllers_has_one_topic_and_destroying_takes_it_away(node, robot):
    for kind in (PositionOutput, TrajectoryOutput):
        output = kind(node, robot)
        assert [publisher.topic_name for publisher in node.publishers if "command" in publisher.topic_name] == [
            "/arm/command"
        ]
        output.destroy()
        assert not [publisher for publisher in node.publishers if "command" in publisher.topic_name]


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("/arm/command", "command and /arm/command are both the topic /arm/command; allowed: a topic for each"),
        ("hand commands", "controller hand commands: its command_topic is no ROS topic's name"),
        ("hand//commands", "controller hand//commands: its command_topic is no ROS topic's name"),
        ("{place}/commands", "controller {place}/commands: its command_topic is no ROS topic's name"),
    ],
)
def test_a_controllers_topic_that_cannot_be_is_refused_before_there_is_any_publisher(node, robot, topic, sentence):
    wrong = replace(robot, controllers=(Controller(command_topic=topic, joints=robot.joint_names),))
    with pytest.raises(RobotError) as caught:
        PositionOutput(node, wrong)
    assert str(caught.value) == sentence
    assert not [publisher for publisher in node.publishers if "command" in publisher.topic_name]
