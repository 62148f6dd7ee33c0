"""`OwnFile`: what an HDF5 file holds itself, and nothing that it borrows from other files.

HDF5 can take a dataset's bytes from any file of the machine (external storage, virtual datasets), and can link into
other HDF5 files. In a stranger's file that turns a private file into pictures, so all of it is refused, unopened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from maskact_ros.core.documents import shortened
from maskact_ros.data.datasets.lerobot_layout import DatasetError

_MOST_LINKS = 16  # that lead from one to the next, as in a circle


@dataclass(frozen=True)
class OwnFile:
    """An open file, and its path for sentences."""

    path: Path
    file: Any  # h5py.File

    def __contains__(self, name: str) -> bool:
        """Whether there is something of that name."""
        return self._found(name) is not None

    def names(self, group: str = "/") -> list[str]:
        """The names in a group; none where there is no such group; raises DatasetError."""
        found = self._found(group)
        return list(found) if isinstance(found, h5py.Group) else []

    def dataset(self, name: str) -> Any | None:
        """A dataset of this file's own, None where there is none of that name; raises DatasetError."""
        found = self._found(name)
        if not isinstance(found, h5py.Dataset):
            return None
        if found.external:
            raise self._borrowed(name, f"external storage in {shortened(repr(found.external[0][0]))}")
        if found.is_virtual:
            raise self._borrowed(name, f"a virtual dataset of {shortened(repr(found.virtual_sources()[0].file_name))}")
        return found

    def _found(self, name: str) -> Any | None:
        """What is at the end of a path, by links within this file only; raises DatasetError."""
        at, waiting, links = self.file, name.strip("/").split("/"), 0
        while waiting:
            part = waiting.pop(0)
            if part in ("", "."):
                continue
            if not isinstance(at, h5py.Group):
                return None
            link = at.get(part, getlink=True)  # which opens nothing
            if isinstance(link, h5py.ExternalLink):
                raise self._borrowed(name, f"a link into {shortened(repr(link.filename))}")
            if isinstance(link, h5py.SoftLink):
                links += 1
                if links > _MOST_LINKS:
                    raise DatasetError(f"{self.path}: {name} is a link that leads nowhere; allowed: a dataset")
                at = self.file if link.path.startswith("/") else at
                waiting = link.path.strip("/").split("/") + waiting
            elif link is None:
                return None
            else:
                at = at[part]
        return at

    def _borrowed(self, name: str, how: str) -> DatasetError:
        return DatasetError(f"{self.path}: {name} is {how}; allowed: what the file holds itself")
