"""Where the package's own files are: in a source tree, in a ROS workspace's share folder, or in pip's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from maskact_ros.errors import MaskACTError

_SOURCE = Path(__file__).resolve().parent.parent


class PathError(MaskACTError):
    """A file of the package that is not where it should be."""


def shared(name: str) -> Path:
    """A file or folder by its path from the repository's root; raises PathError when the installation lacks it."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    candidates = [_SOURCE / name, *(Path(prefix) / "share" / "maskact_ros" / name for prefix in prefixes)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise PathError(f"{name} is in none of {', '.join(str(path) for path in candidates)}; is the workspace sourced?")
