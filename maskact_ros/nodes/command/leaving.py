"""How long the action publisher may take to end."""

from __future__ import annotations

from maskact_ros.core.robot import RobotSpec

_GRACE_S = 1.0  # beyond the stopping time by the limits; an arm that still moves after it is reported


def leaving_s(robot: RobotSpec) -> float:
    """Seconds from the request to end until the arm must be at rest; its supervisor waits for the same time."""
    return robot.stopping_s + _GRACE_S
