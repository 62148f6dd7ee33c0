"""Times on /clock that no clock shows are refused: rclpy would raise at a negative one, and end the node.

In: what comes on /clock while `use_sim_time` is true. Out: the node's clock, which such a time does not reach.
"""

from __future__ import annotations

from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from maskact_ros.nodes.ros.diagnostics import Diagnostics

MOST_S = 2**31 - 1_000_000  # what a stamp can say, and some days left to plan ahead


def guard_clock(node: Node, diagnostics: Diagnostics) -> None:
    """Let a node's clock hear such times only as it can show."""
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

    source.clock_callback = hear  # of the subscription that is made when use_sim_time becomes true
    if source._clock_sub is not None:
        source._clock_sub.callback = hear
