"""What the nodes used live is what a dataset has that was made from the bag of the same run, bit for bit.

And what record-demos writes is what the simulated robot sends, field by field.
"""

import json
import signal
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from support.bringup_processes import PATIENT

from maskact_ros.cli import main
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.images import mask_from_message
from maskact_ros.core.paths import shared
from maskact_ros.data.bags.bag_writer import BagWriter, typestore
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.nodes.ros.messages import picture_digest, stamp_to_ns
from maskact_ros.sim.demonstrate import demonstrate
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.renderer import Renderer
from maskact_ros.sim.world import World
from maskact_ros.training.evaluation.sim_messages import SimMessages

NODES = ("sim_robot", "camera_encoder", "inference", "action_publisher")
RATE_HZ = 5.0  # slow enough for a busy machine to keep
PARAMETERS = {"sim_robot": {"image_rate_hz": RATE_HZ}} | PATIENT

pytestmark = [pytest.mark.timeout(300), pytest.mark.extended]  # five processes, three of them with torch or MuJoCo


@dataclass
class Live:
    """What was heard of the nodes while the bag was recorded."""

    bag: Path
    contract: Path
    pictures: dict[int, str]  # stamp to the digest of the encoder's input
    states: dict[int, list[float]]  # stamp to the planner's joint state
    masks: dict[int, np.ndarray]  # stamp to class ids
    camera_info: CameraInfo


def slow_contract(folder: Path) -> Path:
    """The simulated robot's contract, at RATE_HZ."""
    robot = yaml.safe_load(shared("config/robot.yaml").read_text())
    (folder / "robot.yaml").write_text(yaml.safe_dump(robot | {"policy_rate_hz": RATE_HZ}))
    contract = yaml.safe_load(shared("config/contract.yaml").read_text())
    contract["images"]["rate_tolerance"] = 0.45
    contract["shortest_episode_s"] = 0.0  # where the machine did not keep it, there is a gap, and nothing is lost
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract))
    return folder / "contract.yaml"


@pytest.fixture(scope="module")
def live(module_bench, tmp_path_factory):
    """Four nodes of a moving arm, recorded until enough pictures have been planned from."""
    bench, probe = module_bench, module_bench.probe
    folder = tmp_path_factory.mktemp("live")
    contract = slow_contract(folder)
    used = [probe.hear(String, f"{node}/used") for node in ("camera_encoder", "inference")]
    masks, infos = probe.hear(Image, "mask_truth"), probe.hear(CameraInfo, "camera_info")
    programs = {name: bench.start(name, **PARAMETERS.get(name, {})) for name in NODES}
    for name, program in programs.items():
        bench.wait_until_active(name, program)
    probe.wait(lambda: all(used), "the nodes to use something")
    probe.wait(lambda: probe.enable().success, "the arm to be enabled")
    command = [sys.executable, "-m", "maskact_ros.cli", "record", "--contract", str(contract)]
    recorder = bench.run([*command, "--out", str(folder / "bag")])
    probe.wait(lambda: "maskact_record" in probe.node.get_node_names(), "the recorder")
    subscribed = ("image_raw", "mask_truth", "joint_states", "command")
    probe.wait(lambda: all(_recorded(probe, topic) for topic in subscribed), "its subscriptions")
    known = [len(heard) for heard in used]
    probe.wait(lambda: len(used[0]) > known[0] + 30 and len(used[1]) > known[1] + 5, "what the nodes used")
    recorder.send(signal.SIGINT)
    assert recorder.wait() == 0, recorder.output
    said = [[json.loads(each.message.data) for each in heard[known[i] :]] for i, heard in enumerate(used)]
    return Live(
        bag=folder / "bag",
        contract=contract,
        pictures={each["stamp_ns"]: each["picture"] for each in said[0]},
        states={each["stamp_ns"]: each["state"] for each in said[1]},
        masks={stamp_to_ns(each.message.header.stamp): mask_from_message(each.message) for each in masks},
        camera_info=infos[-1].message,
    )


def _recorded(probe, topic: str) -> bool:
    return "maskact_record" in {
        info.node_name for info in probe.node.get_subscriptions_info_by_topic(f"/maskact/{topic}")
    }


def test_a_dataset_has_the_picture_the_mask_and_the_joints_that_the_nodes_used_bit_for_bit(live, policy, tmp_path):
    out = tmp_path / "dataset"
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(live.bag), "--contract", str(live.contract), "--images", "png", "--out", str(out)])
    assert ended.value.code == 0
    dataset, info = Dataset.open(out), CheckpointInfo.read(policy)
    rows = {int(stamp_ns): row for row, stamp_ns in enumerate(dataset.stamps_ns)}
    frames = [frame for episode in dataset.episodes for frame in dataset.frames(episode.index)]
    assert len(frames) == len(rows)
    first, last = min(rows), max(rows)
    used = {stamp_ns: digest for stamp_ns, digest in live.pictures.items() if first <= stamp_ns <= last}
    dropped = json.loads((out / "meta" / "maskact" / "report.json").read_text())["bags"][0]["dropped"]
    assert len(used.keys() - rows.keys()) <= sum(dropped.values()), "a picture is missing, and the report is silent"
    compared = sorted(used.keys() & rows.keys())
    assert len(compared) > 20
    for stamp_ns in compared:
        frame = frames[rows[stamp_ns]]
        assert picture_digest(info.geometry.to_model(frame.rgb, info.config.image_size)) == used[stamp_ns]
        np.testing.assert_array_equal(frame.mask, live.masks[stamp_ns])
    planned = sorted(live.states.keys() & rows.keys())
    assert len(planned) >= 3
    for stamp_ns in planned:
        np.testing.assert_array_equal(dataset.states[rows[stamp_ns]], np.float32(live.states[stamp_ns]))


def structure(value: Any, fixed_arrays: bool = False) -> Any:
    """A message without what changes: times, and what stands in arrays; their types and lengths stay."""
    if isinstance(value, np.ndarray):
        return value.tolist() if fixed_arrays else (value.dtype, value.shape)
    if isinstance(value, list):
        return [structure(each, fixed_arrays) for each in value]
    if not hasattr(value, "__msgtype__"):
        return value
    fields = {name: each for name, each in vars(value).items() if name != "stamp"}
    return value.__msgtype__, {name: structure(each, fixed_arrays) for name, each in fields.items()}


def first_messages(bag: Path) -> dict[str, Any]:
    """Topic to the first message."""
    found: dict[str, Any] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, reader.deserialize(raw, connection.msgtype))
    return found


def test_record_demos_writes_the_messages_that_the_simulated_robot_and_the_publisher_send(live, robot, tmp_path):
    messages = SimMessages(robot, "raw")
    with BagWriter(tmp_path / "bag") as bag, Renderer(robot) as renderer:
        messages.declare(bag)
        for moment in islice(demonstrate(World(robot), Expert(robot), robot, seed=0), 1):
            messages.joint_state(bag, 1, moment.joints.positions, moment.joints.velocities)
            messages.command(bag, 1, moment.command)
            messages.picture(bag, 1, renderer.rgb(moment.snapshot))
            messages.mask(bag, 1, renderer.labels(moment.snapshot))
    sent, written = first_messages(live.bag), first_messages(tmp_path / "bag")
    assert set(written) == {*sent, "/maskact/camera_info"}
    for topic, message in sent.items():
        assert structure(written[topic]) == structure(message), topic
    info = typestore().deserialize_cdr(serialize_message(live.camera_info), "sensor_msgs/msg/CameraInfo")
    assert structure(written["/maskact/camera_info"], fixed_arrays=True) == structure(info, fixed_arrays=True)
