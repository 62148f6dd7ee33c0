"""`maskact import` takes over datasets of others, with their rows where our rule for actions wants them."""

import shutil

import h5py
import numpy as np
import pytest
import yaml
from support import bags, foreign

from maskact_ros import cli
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.data.inspection.findings import Finding
from maskact_ros.data.inspection.validate import validate

CLASSES = ",".join(foreign.CLASSES)


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory):
    return foreign.write(tmp_path_factory.mktemp("lerobot"), ours=False)


@pytest.fixture
def robot(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(foreign.ROBOT))
    return path


@pytest.fixture
def hdf5(tmp_path):
    """Two demonstrations, of which demo_10 comes after demo_2; masks as the reference writes them, three channels."""
    path = tmp_path / "demos.hdf5"
    with h5py.File(path, "w") as file:
        for name, rows in (("demo_2", range(5)), ("demo_10", range(5, 12))):
            demo = file.create_group(f"data/{name}")
            demo["images"] = np.stack([foreign.picture(row) for row in rows])
            demo["masks"] = np.stack([np.repeat(foreign.mask(row)[..., None], 3, axis=2) for row in rows])
            demo["joints"] = foreign.rows()["observation.state"][rows.start : rows.stop]
            demo["tcps"] = np.zeros((len(rows), 10))
    return path


def run(*words):
    with pytest.raises(SystemExit) as done:
        cli.main(["import", *map(str, words)])
    return done.value.code


def sentence(capsys):
    told = capsys.readouterr().err
    assert told.startswith("maskact import: ")
    assert told.count("\n") == 1
    return told


def test_an_action_at_t_moves_a_row_forward(lerobot, robot, tmp_path):
    words = (lerobot, "--out", tmp_path / "out", "--robot", robot, "--mask-classes", CLASSES, "--task", "lift")
    assert run(*words, "--action-at", "t") == 0
    assert not [item for item in validate(tmp_path / "out") if isinstance(item, Finding)]
    dataset, rows = Dataset.open(tmp_path / "out"), foreign.rows()
    assert [episode.length for episode in dataset.episodes] == [length - 1 for length in foreign.LENGTHS]
    kept = np.concatenate([np.arange(0, 4), np.arange(5, 11), np.arange(12, 35)])
    np.testing.assert_array_equal(dataset.states, rows["observation.state"][kept])
    np.testing.assert_array_equal(dataset.actions, rows["action"][kept + 1])
    np.testing.assert_array_equal(dataset.stamps_ns, rows["stamp_ns"][kept])
    for frame, row in zip(dataset.frames(2), range(12, 35), strict=True):
        np.testing.assert_array_equal(frame.mask, foreign.mask(row))
        assert np.abs(frame.rgb[:, 40:].astype(int) - foreign.picture(row)[:, 40:]).max() <= 4


def test_an_action_at_the_next_row_stays_where_it_is(lerobot, robot, tmp_path):
    words = (lerobot, "--out", tmp_path / "out", "--robot", robot, "--mask-classes", CLASSES, "--task", "lift")
    assert run(*words, "--action-at", "t+dt", "--images", "png") == 0
    np.testing.assert_array_equal(Dataset.open(tmp_path / "out").actions, foreign.rows()["action"])


@pytest.mark.parametrize("dropped", [False, True])
def test_a_dataset_of_ours_is_not_shifted_again_also_when_another_tool_dropped_our_folder(tmp_path, dropped):
    bag = bags.write(tmp_path / "bag", bags.recording(12))
    path = bags.contract(tmp_path)
    convert([bag], Contract.from_yaml(path), tmp_path / "ours", pictures="png")
    first = Dataset.open(tmp_path / "ours")
    if dropped:
        shutil.rmtree(tmp_path / "ours/meta/maskact")
    assert run(tmp_path / "ours", "--out", tmp_path / "again", "--robot", path.parent / "robot.yaml") == 0
    again = Dataset.open(tmp_path / "again")
    np.testing.assert_array_equal(again.actions, first.actions)
    np.testing.assert_array_equal(again.states, first.states)


def test_joints_are_found_by_name(lerobot, tmp_path):
    turned = tmp_path / "robot.yaml"
    renamed = [{**joint, "name": name} for joint, name in zip(foreign.ROBOT["joints"], ("wrist", "arm"), strict=True)]
    turned.write_text(yaml.safe_dump(foreign.ROBOT | {"joints": renamed}))
    words = (lerobot, "--out", tmp_path / "out", "--robot", turned, "--mask-classes", CLASSES, "--task", "lift")
    assert run(*words, "--joints", "turn,lift", "--action-at", "t+dt") == 0
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.robot.joint_names == ("wrist", "arm")
    np.testing.assert_array_equal(dataset.states, foreign.rows()["observation.state"][:, ::-1])


def test_a_dataset_without_masks_is_imported_without(robot, tmp_path):
    source = foreign.write(tmp_path / "source", masks=False, ours=False, video=False)
    assert run(source, "--out", tmp_path / "out", "--robot", robot, "--task", "lift", "--images", "png") == 0
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.mask_classes is None
    np.testing.assert_array_equal(next(dataset.frames(1)).rgb, foreign.picture(5))


def test_the_references_file_gives_its_next_joints_as_action(hdf5, robot, tmp_path):
    words = ("--out", tmp_path / "out", "--robot", robot, "--mask-classes", CLASSES, "--images", "png")
    assert run(hdf5, *words) == 0
    assert not [item for item in validate(tmp_path / "out") if isinstance(item, Finding)]
    dataset, states = Dataset.open(tmp_path / "out"), foreign.rows()["observation.state"]
    assert [episode.source for episode in dataset.episodes] == ["demos.hdf5, demo_2", "demos.hdf5, demo_10"]
    np.testing.assert_array_equal(dataset.states, states[[0, 1, 2, 3, 5, 6, 7, 8, 9, 10]])
    np.testing.assert_array_equal(dataset.actions, states[[1, 2, 3, 4, 6, 7, 8, 9, 10, 11]])
    for frame, row in zip(dataset.frames(1), range(5, 11), strict=True):
        np.testing.assert_array_equal(frame.rgb, foreign.picture(row))
        np.testing.assert_array_equal(frame.mask, foreign.mask(row))


REFUSALS = {
    "classes": ([], "observation.masks.top has class ids without names; --mask-classes gives them"),
    "camera": (["--camera", "front"], "--camera is 'front'; allowed: observation.images.top"),
    "task": (["--mask-classes", CLASSES], "meta/tasks.parquet: cannot be read"),
    "joint names": (["--joints", "elbow,turn", "--mask-classes", CLASSES], "has no elbow; it has lift, turn: --joints"),
    "joint count": (["--joints", "lift", "--mask-classes", CLASSES], "--joints has 1 names; allowed: 2"),
    "class ids": (["--mask-classes", "floor,arm", "--task", "lift"], "has class id 2; allowed: 0 to 1, floor, arm"),
    "mask feature": (["--masks", "action"], "--masks is 'action'; allowed: observation.masks.top"),
    "state": (["--state", "tcps"], "--state is for HDF5 files"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(name, lerobot, robot, tmp_path, capsys):
    words, expected = REFUSALS[name]
    assert run(lerobot, "--out", tmp_path / "out", "--robot", robot, *words) == 1
    assert expected in sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_a_rate_that_is_not_the_robots_is_refused(lerobot, tmp_path, capsys):
    faster = tmp_path / "robot.yaml"
    faster.write_text(yaml.safe_dump(foreign.ROBOT | {"policy_rate_hz": 30.0}))
    assert run(lerobot, "--out", tmp_path / "out", "--robot", faster) == 1
    assert "fps is 10, but policy_rate_hz of robot tiny is 30" in sentence(capsys)


@pytest.mark.parametrize(
    ("corrupt", "expected"),
    [
        (lambda demo: demo.pop("joints"), "data/demo_2/tcps has shape (5, 10); allowed: (T, 2)"),
        (lambda demo: demo.pop("images"), "data/demo_2/images is missing; allowed: uint8 of shape (T, H, W, 3)"),
        (lambda demo: demo["joints"].write_direct(np.full((5, 2), np.nan, np.float32)), "not finite in row 0"),
        (lambda demo: demo.pop("masks"), "data/demo_10 has masks, unlike the demonstration before"),
    ],
    ids=["joints", "images", "nan", "masks"],
)
def test_a_faulty_file_of_the_reference_is_one_sentence(corrupt, expected, hdf5, robot, tmp_path, capsys):
    with h5py.File(hdf5, "a") as file:
        corrupt(file["data/demo_2"])
    assert run(hdf5, "--out", tmp_path / "out", "--robot", robot, "--mask-classes", CLASSES) == 1
    assert expected in sentence(capsys)


def test_a_file_that_is_no_hdf5_is_called_so(robot, tmp_path, capsys):
    assert run(robot, "--out", tmp_path / "out", "--robot", robot) == 1
    assert "cannot be read as HDF5" in sentence(capsys)
