"""Paths: those that a user gives, and those of the package's own files.

In: a path as it was typed, or a name within the repository. Out: an absolute path, or one sentence why there is none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from maskact_ros.core.errors import MaskACTError

_SOURCE = Path(__file__).resolve().parents[2]


class PathError(MaskACTError):
    """A path that leads nowhere, or to what cannot be read: the text names it."""


def resolve_path(path: str | Path, *, base: str | Path = "") -> Path:
    """A path that a user gave, absolute: `~` expanded, symbolic links followed; nothing need be there.

    Relative to `base` or, without one, to the current folder. What it returns, `exists` and its like can be asked.

    Raises:
        PathError: it cannot be a path, or the way to it is barred.
    """
    try:
        resolved = (Path(base) / Path(path).expanduser()).resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            resolved.stat()
    except OSError as error:  # a folder of somebody else, a name that is too long
        raise PathError(f"{path}: cannot be reached ({error.strerror})") from None
    except (RuntimeError, ValueError) as error:  # no such user, links in a circle; a character that no path can have
        raise PathError(f"{str(path)!r} is no path ({error})") from None
    return resolved


def read_bytes(path: Path) -> bytes:
    """The whole content of a file; raises PathError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PathError(f"{path}: cannot be read ({error.strerror})") from None


def shared(name: str) -> Path:
    """A file or folder by its path from the repository's root; raises PathError when the installation lacks it."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    candidates = [_SOURCE / name, *(Path(prefix) / "share" / "maskact_ros" / name for prefix in prefixes)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise PathError(f"{name} is in none of {', '.join(str(path) for path in candidates)}; is the workspace sourced?")
