"""Refuses impossible times on /clock: a negative time would make rclpy raise, which ends the node.

In: messages on /clock while `use_sim_time` is true. Out: only valid times reach the node's clock.
"""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from maskact_ros.nodes.ros.diagnostics import Diagnostics

MOST_S = 2**31 - 1_000_000  # the largest stamp, less some days for times ahead of it


def guard_clock(node: Node, diagnostics: Diagnostics) -> None:
    """Let only valid times reach the node's clock."""
    source = node._time_source
    set_clock = source.clock_callback

    def hear(message: Clock) -> None:
        time = message.clock
        if 0 <= time.sec <= MOST_S and time.nanosec < 1_000_000_000:
            diagnostics.solved("clock")
            set_clock(message)
        else:
            shown = f"{time.sec} s and {time.nanosec} ns"
            diagnostics.problem(
                "clock", f"the time on /clock is {shown}; allowed: 0 to {MOST_S} s, and less than 1000000000 ns"
            )

    source.clock_callback = hear  # for the subscription that is created when use_sim_time becomes true
    if source._clock_sub is not None:
        source._clock_sub.callback = hear
