"""Paths: those that a user gives, and those of the package's own files.

In: a path as it was typed, or a name within the repository. Out: an absolute path, or one sentence why there is none.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from maskact_ros.core.errors import MaskACTError

_SOURCE = Path(__file__).resolve().parents[2]
_LARGEST = 2**31  # bytes that are read at once: what protobuf allows an ONNX graph, and more than any other has
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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


def regular_size(path: Path) -> int:
    """The size in bytes of a regular file, which it has to be before anything opens it.

    To open a named pipe waits for somebody who writes, and a device has no end.

    Raises:
        PathError: there is none, it cannot be reached, or it is something else.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise PathError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a character that no path can have
        raise PathError(f"{str(path)!r} is no path ({error})") from None
    if stat.S_ISDIR(found.st_mode):
        raise PathError(f"{path}: cannot be read (Is a directory)")
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise PathError(f"{path}: is {kind}; allowed: a regular file")
    return found.st_size


def read_bytes(path: Path, *, most: int = _LARGEST) -> bytes:
    """The whole content of a regular file of at most so many bytes; raises PathError."""
    size = regular_size(path)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1) if size <= most else b""
    except OSError as error:
        raise PathError(f"{path}: cannot be read ({error.strerror})") from None
    if size > most or len(content) > most:
        raise PathError(f"{path}: has {max(size, len(content))} bytes; allowed: at most {most}")
    return content


def shared(name: str) -> Path:
    """A file or folder by its path from the repository's root; raises PathError when the installation lacks it."""
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    candidates = [_SOURCE / name, *(Path(prefix) / "share" / "maskact_ros" / name for prefix in prefixes)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise PathError(f"{name} is in none of {', '.join(str(path) for path in candidates)}; is the workspace sourced?")
