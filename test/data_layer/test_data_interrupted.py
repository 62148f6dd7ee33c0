"""A conversion that is killed, or whose disk is full, leaves no dataset, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import bags
import pytest

from maskact_ros.data.contract import Contract
from maskact_ros.data.convert import convert
from maskact_ros.data.dataset import Dataset


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


def test_several_processes_make_one_dataset_in_the_order_of_the_bags(setup):
    made = subprocess.run(command(setup, "--jobs", "2"), capture_output=True, text=True, timeout=110)
    assert made.returncode == 0, made.stderr
    dataset = Dataset.open(setup / "out")
    assert [episode.length for episode in dataset.episodes] == [5, 150, 150]
    assert dataset.states[[0, 5, 155], 0].tolist() == [0, 0, 0]


def test_a_full_disk_leaves_nothing_and_is_one_sentence(setup):
    limited = f"ulimit -f 8; exec {' '.join(command(setup, '--images', 'png'))}"  # blocks of 1 KiB a file
    failed = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=110, preexec_fn=_no_signal)
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (setup / "out").exists()


def _no_signal():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk


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
    assert "exists already; --overwrite replaces it" in refused.stderr
    assert os.listdir(setup / "out") == ["precious"]
