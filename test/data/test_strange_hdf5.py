"""HDF5 files with links, structures, claims and holes where an import expects arrays: one sentence each."""

import os

import h5py
import numpy as np
import pytest
from support import foreign

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.importers import import_hdf5
from maskact_ros.data.importers.source import ImportOptions

ROBOT = RobotSpec.from_dict(foreign.ROBOT)
ROWS = 6


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "demos.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/images"] = np.stack([foreign.picture(row) for row in range(ROWS)])
        file["data/demo_0/joints"] = foreign.rows()["observation.state"][:ROWS]
    return path


def put(name, make):
    """A damage: something else of that name."""

    def damage(file):
        del file[name]
        make(file, name)

    return damage


def link(target):
    return lambda file, name: file.__setitem__(name, target)


def made(*arguments, **options):
    return lambda file, name: file.create_dataset(name, *arguments, **options)


IMAGES, JOINTS = "data/demo_0/images", "data/demo_0/joints"
STRANGE = {
    "a link to nowhere": (put(IMAGES, link(h5py.SoftLink("/absent"))), "images is a link; allowed: data in the file"),
    "a link to itself": (put("data", link(h5py.SoftLink("/data"))), "data is a link"),
    "a link to another file": (put(JOINTS, link(h5py.ExternalLink("/etc/hostname", "/x"))), "joints is a link"),
    "a group": (
        put(IMAGES, lambda file, name: file.create_group(name)),
        "images is Group; allowed: an array of numbers",
    ),
    "a text": (put(JOINTS, link("noon")), "joints is object; allowed: an array of numbers"),
    "nothing": (put(JOINTS, link(h5py.Empty("f4"))), "joints is float32; allowed: an array of numbers"),
    "a structure": (put(JOINTS, made((ROWS, 2), np.dtype([("x", "f4")]))), "allowed: an array of numbers"),
    "complex numbers": (put(JOINTS, made((ROWS, 2), "c16")), "joints is complex128; allowed: an array of numbers"),
    "petabytes": (
        put(IMAGES, made((10**9, 480, 640, 3), "u1", chunks=(1, 480, 640, 3))),
        "claims 921600000000000 bytes of",
    ),
    "rows without content": (put(JOINTS, made((400_000, 2), "f4", chunks=(8, 2))), "joints claims 3200000 bytes"),
    "large pictures": (put(IMAGES, made((ROWS, 4, 70_000_000, 3), "u1", chunks=(1, 4, 64, 3))), "claims 5040000000"),
    "a large chunk": (put(IMAGES, made((2, 3000, 9000, 3), "u1", chunks=(2, 3000, 9000, 3))), "claims 162000000"),
    "other files": (
        put(IMAGES, lambda file, name: file.create_virtual_dataset(name, h5py.VirtualLayout((ROWS, 48, 64, 3), "u1"))),
        "images is of other files; allowed: data in the file itself",
    ),
    "no pixels": (put(IMAGES, made((ROWS, 0, 64, 3), "u1")), "images is 64x0; allowed: 1 to"),
    "no number": (put(JOINTS, made(data=np.full((ROWS, 2), np.nan))), "joints is not finite in row 0"),
}


def rows_of(path):
    source = import_hdf5.read(path, ROBOT, ImportOptions())
    return [row for number in range(len(source.episodes)) for row in source.rows(number)]


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_is_one_sentence(name, path):
    assert len(rows_of(path)) == ROWS - 1
    damage, words = STRANGE[name]
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(MaskACTError) as caught:
        rows_of(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_torn_file_is_one_sentence(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MaskACTError, match="cannot be read as HDF5"):
        rows_of(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "demos.hdf5")
    with pytest.raises(MaskACTError, match=r"demos\.hdf5: is a named pipe; allowed: a regular file"):
        rows_of(tmp_path / "demos.hdf5")
