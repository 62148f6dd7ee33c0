"""`maskact record-demos`: bags of solved episodes, complete or absent, and what is in them."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from support import shared_work

from maskact_ros.cli import main
from maskact_ros.core.align import JointOrder
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import alone
from maskact_ros.core.images import mask_from_message, rgb_from_message
from maskact_ros.core.parallel import Workers
from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.demonstrate import demonstrate
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.renderer import Renderer
from maskact_ros.sim.scene import CUBE_HALF
from maskact_ros.sim.world import World
from maskact_ros.training.evaluation import record_demos as module
from maskact_ros.training.evaluation.record_demos import BEGIN_NS, FIRST_SEED, DemoRequest, record_demos

ROBOT = Path(__file__).parents[2] / "config" / "robot.yaml"


@pytest.fixture(scope="module")
def robot_file(tmp_path_factory):
    """The simulated arm with a camera of 64x48 pixels, which is drawn in no time."""
    file = tmp_path_factory.mktemp("robot") / "robot.yaml"
    file.write_text(ROBOT.read_text().replace("width: 640, height: 480", "width: 64, height: 48"))
    return file


@pytest.fixture(scope="module")
def robot(robot_file):
    return RobotSpec.from_yaml(robot_file)


@pytest.fixture(scope="module")
def recorded(robot_file, tmp_path_factory):
    """The request and the summary of one raw episode and of one with JPEG."""
    folder = tmp_path_factory.mktemp("recorded")
    requests = [
        DemoRequest(out=folder / images, episodes=1, images=images, robot_file=robot_file) for images in ("raw", "jpeg")
    ]
    return {request.images: (request, record_demos(request)) for request in requests}


def bag_of(recorded, images="raw") -> Path:
    return recorded[images][0].bag(FIRST_SEED)


def messages_of(bag: Path) -> dict[str, list]:
    """Topic to messages with the moment they were received."""
    with AnyReader([bag]) as reader:
        found: dict[str, list] = {connection.topic: [] for connection in reader.connections}
        for connection, received_ns, raw in reader.messages():
            found[connection.topic].append((received_ns, reader.deserialize(raw, connection.msgtype)))
    return found


def raw_messages(bag: Path) -> list[tuple[str, int, bytes]]:
    with AnyReader([bag]) as reader:
        return [(connection.topic, received_ns, bytes(raw)) for connection, received_ns, raw in reader.messages()]


def stamp_of(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture(scope="module")
def truth(robot):
    """What happened in the episode, moment by moment."""
    world = World(robot)
    moments = list(demonstrate(world, Expert(robot), robot, seed=FIRST_SEED))
    assert world.episode.success
    return moments


def test_a_bag_has_the_topics_of_the_simulated_robot_at_their_rates(recorded):
    messages = messages_of(bag_of(recorded))
    assert set(messages) == {
        "/maskact/image_raw",
        "/maskact/camera_info",
        "/maskact/mask_truth",
        "/maskact/joint_states",
        "/maskact/command",
    }
    for topic, rate_hz, tolerance_ns in (("image_raw", 30, 2e6), ("joint_states", 100, 0), ("command", 100, 0)):
        periods = np.diff([received_ns for received_ns, _ in messages[f"/maskact/{topic}"]])
        assert np.abs(periods - 1e9 / rate_hz).max() <= tolerance_ns + 1


def test_each_picture_has_its_mask_and_camera_info_of_the_same_stamp_and_frame(recorded, robot):
    messages = messages_of(bag_of(recorded))
    headers = [
        [(stamp_of(message), message.header.frame_id) for _, message in messages[f"/maskact/{topic}"]]
        for topic in ("image_raw", "mask_truth", "camera_info")
    ]
    assert headers[0] == headers[1] == headers[2]
    assert {frame for _, frame in headers[0]} == {robot.only_camera.name}


def test_raw_pictures_masks_joints_and_commands_are_what_happened(recorded, robot, truth):
    messages, joints = messages_of(bag_of(recorded)), JointOrder(robot.joint_names)
    pictured = [moment for moment in truth if moment.snapshot is not None]
    with Renderer(robot) as renderer:
        for moment, (_, image), (_, mask) in zip(
            pictured, messages["/maskact/image_raw"], messages["/maskact/mask_truth"], strict=True
        ):
            assert stamp_of(image) == BEGIN_NS + moment.time_ns
            np.testing.assert_array_equal(rgb_from_message(image), renderer.rgb(moment.snapshot))
            np.testing.assert_array_equal(mask_from_message(mask), renderer.labels(moment.snapshot))
    measured = [moment for moment in truth if moment.joints is not None]
    for moment, (_, state) in zip(measured, messages["/maskact/joint_states"], strict=True):
        assert stamp_of(state) == BEGIN_NS + moment.time_ns
        np.testing.assert_array_equal(joints.pick(state.name, state.position), moment.joints.positions)
        np.testing.assert_array_equal(joints.pick(state.name, state.velocity), moment.joints.velocities)
    for moment, (received_ns, command) in zip(measured, messages["/maskact/command"], strict=True):
        assert received_ns == BEGIN_NS + moment.time_ns
        np.testing.assert_array_equal(command.data, moment.command)


def test_jpeg_pictures_come_on_the_compressed_topic_and_differ_by_little(recorded):
    raw, compressed = messages_of(bag_of(recorded)), messages_of(bag_of(recorded, "jpeg"))
    assert "/maskact/image_raw" not in compressed
    for (_, before), (_, after) in zip(
        raw["/maskact/image_raw"], compressed["/maskact/image_raw/compressed"], strict=True
    ):
        assert stamp_of(before) == stamp_of(after)
        difference = rgb_from_message(before).astype(int) - rgb_from_message(after)
        assert np.abs(difference).mean() < 4.0
        assert np.abs(difference.mean(axis=(0, 1))).max() < 1.0  # red is still red
    for topic in ("mask_truth", "command"):
        contents = [[bytes(message.data) for _, message in bag[f"/maskact/{topic}"]] for bag in (raw, compressed)]
        assert contents[0] == contents[1]


def test_the_same_command_keeps_the_bags_that_are_there_and_records_the_others(recorded, robot_file):
    request, summary = recorded["jpeg"]
    assert (summary.kept, summary.already_there, summary.failed) == (1, 0, ())
    before = (bag_of(recorded, "jpeg") / "metadata.yaml").stat()
    more = record_demos(replace(request, episodes=2))
    assert (more.kept, more.already_there) == (1, 1)
    after = (bag_of(recorded, "jpeg") / "metadata.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.extended
def test_several_jobs_record_the_same_messages(recorded, robot_file, tmp_path):
    summary = record_demos(DemoRequest(out=tmp_path, episodes=2, robot_file=robot_file), Workers(jobs=2))
    assert summary.kept == 2
    alone = bag_of(recorded, "jpeg")
    assert raw_messages(tmp_path / alone.name) == raw_messages(alone)


def test_an_episode_whose_worker_died_when_its_bag_was_there_is_recorded_again(robot_file, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "in_parallel", shared_work.in_parallel_twice)
    assert record_demos(DemoRequest(out=tmp_path, episodes=1, robot_file=robot_file)).kept == 1
    (bag,) = tmp_path.iterdir()
    assert len(messages_of(bag)["/maskact/mask_truth"]) > 60


def test_an_episode_that_was_not_solved_is_counted_and_not_kept(robot_file, tmp_path, monkeypatch, capsys):
    real = module.demonstrate

    def gives_up(world, expert, robot, *, seed, mishap):
        moments = real(world, expert, robot, seed=seed, mishap=mishap)
        return [next(moments)] if seed == 9 else moments

    monkeypatch.setattr(module, "demonstrate", gives_up)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(
            ["record-demos", "--episodes", "2", "--seed", "9", "--out", str(out), "--robot", str(robot_file)],
        )
    assert ended.value.code == 0
    assert [bag.name for bag in out.iterdir()] == ["episode_000010"]
    assert "1 episodes recorded, 1 not solved and not kept (seeds 9)" in capsys.readouterr().out


def test_bags_that_were_recorded_otherwise_are_not_taken_for_the_ones_asked_for(recorded):
    request, _ = recorded["raw"]
    with pytest.raises(MaskACTError, match=r"episode_100000 was recorded with --shift none, not light; give another"):
        record_demos(replace(request, shift="light"))
    with pytest.raises(MaskACTError, match=r"episode_100000 was recorded with --begin usual, not mishap; give another"):
        record_demos(replace(request, begin="mishap"))


def test_after_a_mishap_the_hand_is_shut_around_nothing_and_the_expert_tries_again(robot):
    world, astray, solved = World(robot), 0, 0
    for seed in range(FIRST_SEED, FIRST_SEED + 8):
        world.reset(seed)
        usual = world.object_pose
        moments = demonstrate(world, Expert(robot), robot, seed=seed, mishap=True)
        first = next(moments)
        assert first.joints.positions[-1] < CUBE_HALF - 0.002
        astray += not np.allclose(world.object_pose[:2], usual[:2], atol=1e-3)
        assert sum(1 for _ in moments) > 100
        solved += world.episode.success
    assert 0 < astray < 8
    assert solved >= 6


@pytest.fixture
def copied(recorded, tmp_path):
    """The request for a bag that is there, in a folder of its own."""
    request = replace(recorded["raw"][0], out=tmp_path)
    shutil.copytree(bag_of(recorded), request.bag(FIRST_SEED))
    return request


def edit_notes(bag: Path, change) -> None:
    values = yaml.safe_load((bag / "metadata.yaml").read_text())
    change(values["rosbag2_bagfile_information"]["custom_data"])
    (bag / "metadata.yaml").write_text(yaml.safe_dump(values))


def test_bags_of_another_robot_are_not_taken_for_the_ones_asked_for(copied, robot_file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(robot_file.read_text().replace("width: 64, height: 48", "width: 80, height: 60"))
    with pytest.raises(MaskACTError, match="episode_100000 was recorded with another --robot; give another --out"):
        record_demos(replace(copied, robot_file=other))


def test_a_bag_that_tells_neither_its_robot_nor_its_begin_is_there(copied):
    edit_notes(copied.bag(FIRST_SEED), lambda notes: [notes.pop(name) for name in ("maskact_robot", "maskact_begin")])
    assert record_demos(copied).already_there == 1


DAMAGES = {
    "empty metadata": lambda bag: (bag / "metadata.yaml").write_text(""),
    "metadata of zeros": lambda bag: (bag / "metadata.yaml").write_bytes(bytes(400)),
    "metadata cut short": lambda bag: (bag / "metadata.yaml").write_text("rosbag2_bagfile_information:\n"),
    "no messages": lambda bag: (bag / f"{bag.name}.mcap").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bag_is_recorded_anew(damage, copied):
    bag = copied.bag(FIRST_SEED)
    DAMAGES[damage](bag)
    summary = record_demos(copied)
    assert (summary.kept, summary.already_there) == (1, 0)
    assert len(messages_of(bag)["/maskact/mask_truth"]) > 60
    assert [path.name for path in copied.out.iterdir()] == [bag.name]


def test_a_bag_reaches_the_disk_before_its_name(robot_file, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_ino, bag.exists())))
    request = DemoRequest(out=tmp_path, episodes=1, robot_file=robot_file)
    bag = request.bag(FIRST_SEED)
    record_demos(request)
    assert {(file.stat().st_ino, False) for file in bag.iterdir()} <= set(synced)


def test_a_second_run_to_the_same_folder_is_refused_and_leaves_the_first_one_alone(copied, tmp_path):
    working = tmp_path / ".partial"
    with alone(working, "not reached"):
        (working / "episode_100001").mkdir()
        with pytest.raises(MaskACTError, match=f"^{tmp_path}: another record-demos to it is running$"):
            record_demos(copied)
        assert (working / "episode_100001").exists()
    assert record_demos(copied).already_there == 1
    assert not working.exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"episodes": 0}, "--episodes is 0; allowed: 1 to 1000000"),
        ({"seed": -1}, "--seed is -1; allowed: 0 to 2147483647 with 1 episodes"),
        ({"shift": "fog"}, "fog"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_sentence(tmp_path, changes, text):
    with pytest.raises(MaskACTError, match=text):
        DemoRequest(**{"out": tmp_path, "episodes": 1} | changes)


def start(out: Path, robot_file: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "maskact_ros.cli", "record-demos", "--episodes", "2"]
    command += ["--out", str(out), "--robot", str(robot_file)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=dict(os.environ), **pipes, **options)


def test_killed_in_the_middle_it_leaves_whole_bags_only_and_goes_on_from_there(robot_file, tmp_path):
    process = start(tmp_path, robot_file)
    try:
        until_s = time.monotonic() + 60
        while not list(tmp_path.glob(".partial/*/*/*.mcap")):
            assert time.monotonic() < until_s
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    whole = sorted(tmp_path.glob("episode_*"))
    assert len(whole) < 2
    summary = record_demos(DemoRequest(out=tmp_path, episodes=2, robot_file=robot_file))
    assert summary.already_there == len(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episode_100000", "episode_100001"]
    for bag in tmp_path.iterdir():
        assert len(messages_of(bag)["/maskact/mask_truth"]) > 60


def test_a_full_disk_is_one_sentence_and_no_bag(robot_file, tmp_path):
    limit = 200_000  # bytes a file may have

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(tmp_path, robot_file, preexec_fn=limited)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "episode_100000: cannot be written (File too large)" in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("episode_*"))
