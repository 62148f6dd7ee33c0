"""How long the action publisher may take to end."""

from __future__ import annotations

from maskact_ros.core.robot import RobotSpec

_GRACE_S = 1.0  # how much longer than its limits need to stop an arm may take to come to rest, before we say so


def leaving_s(robot: RobotSpec) -> float:
    """Seconds from the request to end until the arm must be at rest; its supervisor waits for as long."""
    return robot.stopping_s + _GRACE_S
