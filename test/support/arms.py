"""Robots for these tests: one with round numbers, and random ones."""

import numpy as np

from maskact_ros.core.robot import Camera, Joint, RobotSpec


def robot(*joints: Joint) -> RobotSpec:
    return RobotSpec(
        name="arm",
        policy_rate_hz=20.0,
        joint_states_topic="joint_states",
        command_topic="command",
        joints=joints,
        cameras=(Camera(name="top", image_topic="image_raw", width=64, height=48),),
    )


# At 100 Hz, a velocity changes by at most 0.05 a period.
ARM = robot(
    Joint(name="lift", lower=-1.0, upper=2.0, velocity=1.0, acceleration=5.0),
    Joint(name="turn", type="continuous", velocity=2.0, acceleration=5.0),
)


def random_robot(random: np.random.Generator) -> RobotSpec:
    joints = []
    for i in range(random.integers(1, 8)):
        scale = 10.0 ** random.uniform(-2, 1)
        motion = {"velocity": scale * random.uniform(0.1, 5), "acceleration": scale * 10.0 ** random.uniform(-1, 2)}
        if random.random() < 0.2:
            joints.append(Joint(name=f"joint_{i}", type="continuous", **motion))
        else:
            lower = scale * random.uniform(-2, 2)
            joints.append(
                Joint(name=f"joint_{i}", lower=lower, upper=lower + scale * random.uniform(0.01, 4), **motion)
            )
    return robot(*joints)
