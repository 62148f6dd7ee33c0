"""Kinematics of the simulated arm in closed form: joints to tool pose, and a downward tool pose to joints.

The tool is the point between the fingertips. Lengths in metres, angles in radians, the six arm joints in their order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maskact_ros.sim.scene import FOREARM, HAND, SHOULDER_HEIGHT, UPPER_ARM

Vector = NDArray[np.float64]


def tool_position(joints: Vector) -> Vector:
    """The position (3,) of the tool point at `joints` (6,)."""
    pan, lift, elbow, flex, yaw, _ = joints
    forearm = lift + elbow  # angles from the vertical, in the plane of the arm
    hand = forearm + flex
    radius = UPPER_ARM * math.sin(lift) + FOREARM * math.sin(forearm) + HAND * math.cos(yaw) * math.sin(hand)
    height = UPPER_ARM * math.cos(lift) + FOREARM * math.cos(forearm) + HAND * math.cos(yaw) * math.cos(hand)
    aside = -HAND * math.sin(yaw)
    return np.array(
        [
            radius * math.cos(pan) - aside * math.sin(pan),
            radius * math.sin(pan) + aside * math.cos(pan),
            SHOULDER_HEIGHT + height,
        ]
    )


def joints_for(position: Vector, roll: float) -> Vector:
    """The joints (6,) that put the tool at `position` (3,), pointing down, elbow up, the hand rolled by `roll`.

    With `roll` zero the fingers open perpendicular to the arm's direction. For a position out of reach, the joints are
    those of the nearest position on the line from the shoulder.
    """
    x, y, z = position
    pan = math.atan2(y, x)
    radius, height = math.hypot(x, y), z + HAND - SHOULDER_HEIGHT  # of the wrist, from the shoulder
    distance = min(max(math.hypot(radius, height), 0.15), 0.999 * (UPPER_ARM + FOREARM))
    bend = math.acos((UPPER_ARM**2 + FOREARM**2 - distance**2) / (2 * UPPER_ARM * FOREARM))  # inside the elbow
    rise = math.acos((UPPER_ARM**2 + distance**2 - FOREARM**2) / (2 * UPPER_ARM * distance))
    lift = math.atan2(radius, height) - rise
    elbow = math.pi - bend
    return np.array([pan, lift, elbow, math.pi - lift - elbow, 0.0, roll])
