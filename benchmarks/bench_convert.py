"""How fast bags become datasets: records a 640x480 bag at 30 Hz, converts it, and prints times real time and memory.

python benchmarks/bench_convert.py --seconds 60 --images video
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from maskact_ros.data.contract import Contract
from maskact_ros.data.convert import convert
from maskact_ros.paths import shared

START_NS = 1_700_000_000_000_000_000
PICTURES = 90  # different ones, after which they repeat


def record(folder: Path, contract: Contract, seconds: float) -> None:
    """A bag such as the simulated robot's: pictures and masks at 30 Hz, joints and commands at 100 Hz."""
    store = get_typestore(Stores.ROS2_JAZZY)
    image, joints, numbers, layout, header, moment = (
        store.types[name]
        for name in (
            "sensor_msgs/msg/Image",
            "sensor_msgs/msg/JointState",
            "std_msgs/msg/Float64MultiArray",
            "std_msgs/msg/MultiArrayLayout",
            "std_msgs/msg/Header",
            "builtin_interfaces/msg/Time",
        )
    )
    names, camera = list(contract.robot.joint_names), contract.robot.only_camera
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (camera.width, camera.height))
    pictures, masks = [], []
    for n in range(PICTURES):
        noise = rng.normal(0, 2, scene.shape)
        moved = cv2.circle(scene.copy(), (100 + 4 * n, 240), 60, (200, 40, 40), -1)
        pictures.append(np.clip(moved + noise, 0, 255).astype(np.uint8).ravel())
        masks.append(cv2.circle(np.zeros(scene.shape[:2], np.uint8), (100 + 4 * n, 240), 60, 1, -1).ravel())
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {
            topic: (writer.add_connection(topic, kind, typestore=store), kind)
            for topic, kind in (
                (contract.image_topics[0], "sensor_msgs/msg/Image"),
                (str(contract.mask_topic), "sensor_msgs/msg/Image"),
                (contract.state_topic, "sensor_msgs/msg/JointState"),
                (contract.action_topic, "std_msgs/msg/Float64MultiArray"),
            )
        }

        def write(topic: str, stamp_ns: int, message: object) -> None:
            connection, kind = topics[topic]
            writer.write(connection, stamp_ns, store.serialize_cdr(message, kind))

        for tick in range(round(seconds * 300)):
            stamp_ns = START_NS + round(tick / 300 * 1e9)
            head = header(moment(*divmod(stamp_ns, 10**9)), "camera")
            if tick % 3 == 0:
                position = np.full(len(names), 0.01 * np.sin(tick / 300))
                write(contract.state_topic, stamp_ns, joints(head, names, position, np.zeros(0), np.zeros(0)))
                write(contract.action_topic, stamp_ns, numbers(layout([], 0), position))
            if tick % 10 == 0:
                size, n = (camera.height, camera.width), tick // 10 % PICTURES
                for topic, encoding, step, data in (
                    (contract.image_topics[0], "rgb8", 3, pictures[n]),
                    (str(contract.mask_topic), "mono8", 1, masks[n]),
                ):
                    write(topic, stamp_ns, image(head, *size, encoding, 0, step * camera.width, data))


def main() -> None:
    """Record, convert, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--images", choices=("video", "png"), default="video")
    arguments = parser.parse_args()
    contract = Contract.from_yaml(shared("config/contract.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        bag, out = Path(folder) / "bag", Path(folder) / "dataset"
        # In a process of its own, so that its memory is not taken for the conversion's.
        recorder = multiprocessing.get_context("spawn").Process(target=record, args=(bag, contract, arguments.seconds))
        recorder.start()
        recorder.join()
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        done = convert([bag], contract, out, pictures=arguments.images)
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        megabytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    print(
        f"{arguments.images}: {done.frames} frames in {wall_s:.1f} s, {arguments.seconds / wall_s:.1f} x real time "
        f"({arguments.seconds / cpu_s:.1f} x by processor time), {megabytes:.0f} MB; peak memory {peak_mib:.0f} MiB"
    )


if __name__ == "__main__":
    main()
