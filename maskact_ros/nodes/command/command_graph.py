"""The other nodes on the command topics: controllers that subscribe, and nodes that publish there, too.

In: the ROS graph. Out: why nothing takes the commands, or None; the names of the other publishing nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

from maskact_ros.nodes.ros.publishers import publishing_nodes

TYPES = {"position": "std_msgs/msg/Float64MultiArray", "trajectory": "trajectory_msgs/msg/JointTrajectory"}


class CommandGraph:
    """Reads the graph at each call; `publishers` are those that the controllers subscribe to."""

    def __init__(self, node: LifecycleNode, publishers: Sequence[LifecyclePublisher], interface: str):
        self._node, self._publishers, self._interface = node, publishers, interface

    @property
    def unheard(self) -> str | None:
        """Why nothing takes what is published on one of the topics, or None."""
        for publisher in self._publishers:
            if publisher.get_subscription_count() == 0:
                return self._reason(publisher.topic_name)
        return None

    @property
    def others(self) -> list[str]:
        """The other nodes that publish on these topics, each with its topic."""
        own = self._node.get_fully_qualified_name()
        found = {
            f"{name} on {publisher.topic_name}"
            for publisher in self._publishers
            for name in publishing_nodes(self._node, publisher.topic_name)
            if name != own
        }
        return sorted(found)

    def _reason(self, topic: str) -> str:
        kinds = {info.topic_type for info in self._node.get_subscriptions_info_by_topic(topic)}
        wanted = TYPES[self._interface]
        if wanted in kinds:
            return f"who listens to {topic} asks for another QoS than reliable, volatile"
        if not kinds:
            return f"nothing listens to {topic} ({wanted})"
        other = next((name for name, kind in TYPES.items() if kind in kinds), None)
        remedy = "" if other is None else f"; set command_interface to {other}"
        return f"nothing listens to {topic} with {wanted}, but with {', '.join(sorted(kinds))}{remedy}"
