"""The publishers of a topic: their nodes, number and types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rclpy.node import Node


def publishers_on(node: Node, topic: str) -> Counter[str]:
    """The number of publishers on a topic by type, such as sensor_msgs/msg/Image; `topic` may be remapped."""
    return Counter(info.topic_type for info in node.get_publishers_info_by_topic(node.resolve_topic_name(topic)))


def publishing_nodes(node: Node, topic: str) -> list[str]:
    """The full names of the nodes that publish on a topic; it may be remapped."""
    infos = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return sorted({f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos})


def silence_of(counts: Mapping[str, int], wanted: str, remedies: Mapping[str, str]) -> str:
    """The likely reason why no message of type `wanted` comes; `remedies` maps other types to a remedy."""
    others = sorted(kind for kind in counts if kind != wanted)
    count = counts.get(wanted, 0)
    if count:
        return f" ({count} publishers there" + (f"; others there send {', '.join(others)}" if others else "") + ")"
    if not others:
        return " (0 publishers there); is the camera's driver running, and is this its topic?"
    remedy = next((remedies[kind] for kind in others if kind in remedies), f"allowed: {wanted}")
    return f": it carries {', '.join(others)}; {remedy}"
