"""An HDF5 file of anybody: its data sets, each checked before a number of it is read.

In: a file's path. Out: groups and data sets that are in this very file, of plain numbers, and no larger than it can
hold; else a DatasetError that names the file and the object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import shortened
from maskact_ros.core.foreign_file import DEFLATE_TIMES, check_claim, reading
from maskact_ros.data.datasets.lerobot_layout import DatasetError

_UNSTORED, _MOST_TIMES = 2**20, 100  # bytes that numbers may claim beyond a hundred times what is stored of them
_LARGEST_CHUNK = 2**28  # bytes; of a compressed data set, whole chunks are read


def reading_hdf5(path: Path) -> Any:
    """A block in which h5py reads the file; whatever it raises is a DatasetError."""
    return reading(path, "HDF5", DatasetError)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, to read from; raises DatasetError."""
    with reading_hdf5(path), h5py.File(path, "r") as file:
        yield file


def member(path: Path, group: Any, name: str) -> Any:
    """A group's own member, or None; raises DatasetError on a link, behind which anything of this machine may be."""
    link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise DatasetError(f"{path}: {group.name}/{name} is a link; allowed: data in the file itself")
    return group[name]


def data_set(path: Path, group: Any, name: str) -> Any:
    """A group's data set of numbers whose content is in the file, or None; raises DatasetError."""
    found = member(path, group, name)
    if found is None:
        return None
    shown = f"{group.name}/{name}".lstrip("/")
    if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "iufb":
        kind = getattr(found, "dtype", None) or type(found).__name__
        raise DatasetError(f"{path}: {shown} is {shortened(str(kind))}; allowed: an array of numbers")
    if found.is_virtual or found.external:
        raise DatasetError(f"{path}: {shown} is of other files; allowed: data in the file itself")
    claimed = math.prod(found.shape) * found.dtype.itemsize
    check_claim(path, claimed, shown, DatasetError, times=DEFLATE_TIMES)
    chunk = math.prod(found.chunks or (0,)) * found.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        raise DatasetError(f"{path}: {shown} has chunks of {chunk} bytes; allowed: at most {_LARGEST_CHUNK}")
    return found


def whole(path: Path, found: Any) -> NDArray[np.float64]:
    """All numbers of a data set, which are few; raises DatasetError."""
    claimed, stored = math.prod(found.shape) * found.dtype.itemsize, found.id.get_storage_size()
    if claimed > _UNSTORED + _MOST_TIMES * stored:  # the rest would be made up of a fill value
        shown = found.name.lstrip("/")
        raise DatasetError(f"{path}: {shown} claims {claimed} bytes; allowed for the {stored} that it stores: less")
    return np.asarray(found).astype(np.float64)
