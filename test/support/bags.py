"""Tiny bags, written message by message, for the tests of conversion."""

import itertools

import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
SIZE = (16, 24)  # height and width
JOINTS = ("lift", "grip")

_KINDS = {
    "/arm/image": "sensor_msgs/msg/Image",
    "/arm/image/compressed": "sensor_msgs/msg/CompressedImage",
    "/arm/mask": "sensor_msgs/msg/Image",
    "/arm/joints": "sensor_msgs/msg/JointState",
    "/arm/command": "std_msgs/msg/Float64MultiArray",
    "/arm/trajectory": "trajectory_msgs/msg/JointTrajectory",
}


def contract(folder, **changes):
    """Write a contract and its robot; `changes` replace its sections, and None leaves one out. Returns its path."""
    robot = {
        "name": "two_joints",
        "policy_rate_hz": 10.0,
        "joint_states_topic": "joints",
        "command_topic": "command",
        "joints": [
            {"name": name, "lower": -999.0, "upper": 999.0, "velocity": 40.0, "acceleration": 1.0} for name in JOINTS
        ],
        "cameras": [{"name": "top", "image_topic": "image", "width": SIZE[1], "height": SIZE[0]}],
    }
    values = {
        "robot": "robot.yaml",
        "namespace": "/arm",
        "task": "lift it",
        "masks": {"topic": "mask", "classes": ["background", "thing"]},
        "shortest_episode_s": 0.0,
    }
    values = {key: value for key, value in (values | changes).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robot.yaml").write_text(yaml.safe_dump(robot))
    (folder / "contract.yaml").write_text(yaml.safe_dump(values))
    return folder / "contract.yaml"


def picture(n):
    """The picture of row n, whose every pixel tells n."""
    return np.full((*SIZE, 3), (n * 5 % 250, 100, 200), np.uint8)


def mask(n):
    labels = np.zeros(SIZE, np.uint8)
    labels[: n % 7 + 1] = 1
    return labels


def header(stamp_ns):
    time = STORE.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return STORE.types["std_msgs/msg/Header"](time, "top")


def image_message(stamp_ns, array, encoding="rgb8", padding=0):
    rows = array.reshape(len(array), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    kind = STORE.types["sensor_msgs/msg/Image"]
    return kind(header(stamp_ns), *array.shape[:2], encoding, 0, rows.shape[1], rows.ravel())


def compressed_message(stamp_ns, content, named):
    return STORE.types["sensor_msgs/msg/CompressedImage"](header(stamp_ns), named, np.frombuffer(content, np.uint8))


def joints_message(stamp_ns, values, names=JOINTS):
    none = np.zeros(0)
    kind = STORE.types["sensor_msgs/msg/JointState"]
    return kind(header(stamp_ns), list(names), np.array(values, float), none, none)


def command_message(values):
    layout = STORE.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    return STORE.types["std_msgs/msg/Float64MultiArray"](layout, np.array(values, float))


def trajectory_message(stamp_ns, points, names=JOINTS):
    """`points`: pairs of seconds and positions."""
    none = np.zeros(0)
    duration = STORE.types["builtin_interfaces/msg/Duration"]
    point = STORE.types["trajectory_msgs/msg/JointTrajectoryPoint"]
    made = [point(np.array(at, float), none, none, none, duration(0, round(s * 1e9))) for s, at in points]
    return STORE.types["trajectory_msgs/msg/JointTrajectory"](header(stamp_ns), list(names), made)


def recording(rows, *, without=()):
    """(topic, received_ns, message) of a teleoperated arm; pictures arrive 30 ms after they were taken.

    Row n's state is (n, -n) and its action (n + 1.5, 0.5), so that whoever takes the wrong moment is found out.
    """
    messages = []
    for n in range(rows + 2):
        at = START_NS + n * PERIOD_NS
        if n < rows:
            late = at + 30_000_000
            messages.append(("/arm/image", late, image_message(at, picture(n))))
            messages.append(("/arm/mask", late + 1000, image_message(at, mask(n), "mono8")))
        messages.append(("/arm/joints", at - 5_000_000, joints_message(at - 5_000_000, (n, -n))))
        messages.append(("/arm/joints", at + 40_000_000, joints_message(at + 40_000_000, (n + 0.4, -n))))
        messages.append(("/arm/command", at - 10_000_000, command_message((n + 0.5, 0.5))))
        messages.append(("/arm/command", at + 50_000_000, command_message((99, 99))))
    return sorted((m for m in messages if m[0] not in without), key=lambda m: m[1])


def write(folder, messages, *, storage="mcap", compress=None):
    """Write a rosbag2 folder; returns it."""
    with_compression = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compress:
        with_compression.set_compression(CompressionMode[compress], CompressionFormat.ZSTD)
    with with_compression as writer:
        topics = dict.fromkeys(topic for topic, _, _ in messages)
        connections = {topic: writer.add_connection(topic, _KINDS[topic], typestore=STORE) for topic in topics}
        for topic, received_ns, message in messages:
            writer.write(connections[topic], received_ns, STORE.serialize_cdr(message, _KINDS[topic]))
    return folder


def data_file(bag):
    return next(path for path in bag.iterdir() if path.name != "metadata.yaml")


def numbers(column):
    return list(itertools.chain.from_iterable(column))
