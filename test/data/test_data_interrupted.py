"""A conversion that is killed, or whose disk is full, leaves no dataset, and the same command goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import pytest
from support import bags, shared_work

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import alone
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.datasets.dataset import Dataset


def command(tmp_path, *options):
    arguments = ["convert", str(tmp_path / "bags"), "--contract", str(tmp_path / "contract.yaml"), "--out"]
    return [sys.executable, "-m", "maskact_ros.cli", *arguments, str(tmp_path / "out"), *options]


@pytest.fixture
def setup(tmp_path):
    for name, rows in (("a", 5), ("b", 150), ("c", 150)):
        bags.write(tmp_path / "bags" / name, bags.recording(rows))
    bags.contract(tmp_path)
    return tmp_path


def parts(folder):
    return {path.name: path.stat().st_ino for path in folder.glob(".out.parts/part-*")}


def test_killed_in_the_middle_it_goes_on_where_it_was(setup):
    process = subprocess.Popen(command(setup))
    while not parts(setup):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = parts(setup)
    assert done
    assert not (setup / "out").exists()

    again = subprocess.run(command(setup), capture_output=True, text=True, timeout=110)
    assert again.returncode == 0, again.stderr
    assert f"({len(done)} of an" in " ".join(again.stdout.split())
    dataset = Dataset.open(setup / "out")
    assert [episode.length for episode in dataset.episodes] == [5, 150, 150]
    assert sorted(path.name for path in setup.iterdir() if path.name.startswith(".")) == []


def test_a_bag_whose_worker_died_when_its_part_was_there_is_converted_once(setup, monkeypatch):
    monkeypatch.setattr("maskact_ros.data.bags.convert.in_parallel", shared_work.in_parallel_twice)
    done = convert([setup / "bags"], Contract.from_yaml(setup / "contract.yaml"), setup / "out")
    assert (done.bags, done.episodes, done.frames) == (3, 3, 305)


def test_several_processes_make_one_dataset_in_the_order_of_the_bags(setup):
    made = subprocess.run(command(setup, "--jobs", "2"), capture_output=True, text=True, timeout=110)
    assert made.returncode == 0, made.stderr
    dataset = Dataset.open(setup / "out")
    assert [episode.length for episode in dataset.episodes] == [5, 150, 150]
    assert dataset.states[[0, 5, 155], 0].tolist() == [0, 0, 0]


def test_a_full_disk_leaves_nothing_and_is_one_sentence(setup):
    # Blocks of 1 KiB a file, also for what `make coverage` would write.
    limited = f"ulimit -f 8; unset COVERAGE_PROCESS_CONFIG; exec {' '.join(command(setup, '--images', 'png'))}"
    failed = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=110, preexec_fn=_no_signal)
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (setup / "out").exists()


def _no_signal():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk


@pytest.fixture
def labelled(tmp_path):
    """A contract with a folder of masks, and what a conversion to `out` leaves when nothing can be put together."""
    (tmp_path / "masks").mkdir()
    bags.write(tmp_path / "bag", bags.recording(6))
    contract = Contract.from_yaml(
        bags.contract(tmp_path, masks={"folder": "masks", "classes": ["background", "thing"]})
    )

    def label(n, labels=None):
        path = tmp_path / f"masks/{bags.START_NS + n * bags.PERIOD_NS}.png"
        cv2.imwrite(str(path), bags.mask(n) if labels is None else labels)

    def interrupted(monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("maskact_ros.data.bags.convert.assemble", _killed)
            with pytest.raises(KeyboardInterrupt):
                convert([tmp_path / "bag"], contract, tmp_path / "out")
        assert parts(tmp_path)

    return contract, label, interrupted


def _killed(*_):
    raise KeyboardInterrupt


def test_masks_that_were_added_or_corrected_meanwhile_are_in_the_dataset(labelled, tmp_path, monkeypatch):
    contract, label, interrupted = labelled
    for n in range(3):
        label(n)
    interrupted(monkeypatch)
    label(3)
    assert convert([tmp_path / "bag"], contract, tmp_path / "out").resumed == 0
    assert [episode.length for episode in Dataset.open(tmp_path / "out").episodes] == [4]

    shutil.rmtree(tmp_path / "out")
    interrupted(monkeypatch)
    label(2, bags.mask(2) * 0)
    assert convert([tmp_path / "bag"], contract, tmp_path / "out").resumed == 0
    assert [int(frame.mask.max()) for frame in Dataset.open(tmp_path / "out").frames(0)] == [1, 1, 0, 1]


def test_what_is_beside_the_masks_makes_no_work_anew(labelled, tmp_path, monkeypatch):
    contract, label, interrupted = labelled
    label(0)
    interrupted(monkeypatch)
    (tmp_path / "masks/notes.txt").touch()
    assert convert([tmp_path / "bag"], contract, tmp_path / "out").resumed == 1


def test_a_conversion_without_an_episode_leaves_no_parts(labelled, tmp_path):
    contract, _, _ = labelled
    with pytest.raises(MaskACTError, match="gives no episode: the picture has no mask with its stamp"):
        convert([tmp_path / "bag"], contract, tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))


def test_what_waits_to_be_long_enough_fits_memory(tmp_path):
    path = bags.contract(tmp_path, shortest_episode_s=60)
    assert Contract.from_yaml(path).shortest_episode_s == 60
    robot = tmp_path / "robot.yaml"
    robot.write_text(robot.read_text().replace("height: 16", "height: 480").replace("width: 24", "width: 640"))
    with pytest.raises(MaskACTError, match=r"shortest_episode_s is 60; allowed: .* and <= 43\.6907, as memory"):
        Contract.from_yaml(path)


def test_a_picture_of_another_size_is_told_before_it_waits(tmp_path):
    bags.write(tmp_path / "bag", bags.recording(3))
    bags.contract(tmp_path, shortest_episode_s=10, masks=None)
    robot = tmp_path / "robot.yaml"
    robot.write_text(robot.read_text().replace("height: 16", "height: 15"))
    contract = Contract.from_yaml(tmp_path / "contract.yaml")
    with pytest.raises(MaskACTError, match="is 24x16; allowed, as the robot says of camera top: 24x15"):
        convert([tmp_path / "bag"], contract, tmp_path / "out")


def test_a_second_conversion_to_the_same_dataset_is_refused(setup):
    with alone(setup / ".out.parts", "not reached"), pytest.raises(MaskACTError, match="out: another conversion to it"):
        convert([setup / "bags"], Contract.from_yaml(setup / "contract.yaml"), setup / "out")


def test_a_folder_of_masks_that_is_not_there_is_one_sentence(labelled, tmp_path):
    contract, _, _ = labelled
    (tmp_path / "masks").rmdir()
    with pytest.raises(MaskACTError, match=r"masks: folder .*/masks cannot be read \(No such file or directory\)"):
        convert([tmp_path / "bag"], contract, tmp_path / "out")


def test_a_dataset_that_is_made_again_is_another_one(tmp_path):
    bags.write(tmp_path / "bags/a", bags.recording(5))
    contract = Contract.from_yaml(bags.contract(tmp_path))
    identities = []
    for _ in range(2):
        convert([tmp_path / "bags"], contract, tmp_path / "out", overwrite=True)
        identities.append(Dataset.open(tmp_path / "out").identity)
    assert "" not in identities
    assert identities[0] != identities[1]


def test_an_existing_dataset_is_not_touched_without_overwrite(setup):
    (setup / "out").mkdir()
    (setup / "out/precious").touch()
    refused = subprocess.run(command(setup), capture_output=True, text=True, timeout=110)
    assert refused.returncode == 1
    assert "out: exists and is not a dataset, as it has no meta/maskact/report.json" in refused.stderr
    assert os.listdir(setup / "out") == ["precious"]
