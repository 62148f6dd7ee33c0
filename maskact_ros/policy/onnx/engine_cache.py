"""TensorRT's engines on the disk: native code, so only what this user's machine built is ever loaded.

In: a graph's content and precision. Out: a folder in the user's own cache, never in the checkpoint, which may be a
stranger's. Beside the engines is a manifest with the size and SHA-256 of each. It is checked before TensorRT sees the
folder, and what does not fit is removed, said, and built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError, printable
from maskact_ros.core.outputs import OutputError, open_own, refuse_link, replaced_file
from maskact_ros.policy.errors import PolicyError

_MANIFEST, _LOCK = "manifest.json", "lock"


def engine_folder(graph: bytes, precision: str) -> Path | None:
    """Where the engines of a graph lie, made if need be: `~/.cache/maskact_ros/tensorrt/…`, or in XDG_CACHE_HOME.

    None, and why is said, where nothing can be kept: a user without a home, or a folder that others can write to.
    """
    key = f"{hashlib.sha256(graph).hexdigest()[:32]}-{precision}"
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "maskact_ros" / "tensorrt" / key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_link(folder)
        about = folder.stat()
        if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OutputError(f"{folder}: others can write to it; allowed: a folder of yours alone")
    except (OSError, RuntimeError, OutputError) as error:
        _say(f"TensorRT's engines are built at each start, as they cannot be kept ({error})")
        return None
    return folder


@contextmanager
def checked_engines(folder: Path) -> Iterator[None]:
    """Inside, the folder has only engines that fit its manifest; afterwards the manifest lists what is there then.

    One process at a time: another one waits, and finds the engines built.

    Raises:
        MaskACTError: the folder cannot be read or written.
    """
    with os.fdopen(open_own(folder / _LOCK), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_what_does_not_fit(folder)
        yield
        listed = {path.name: _fingerprint(path) for path in _kept(folder) if path.is_file()}
        with replaced_file(folder / _MANIFEST, "a manifest", ours=True) as partial:
            partial.write_text(json.dumps({"files": listed}, indent=2) + "\n", encoding="utf-8")


def _remove_what_does_not_fit(folder: Path) -> None:
    listed = _listed(folder)
    for path in _kept(folder):
        if path.is_symlink() or not path.is_file() or _fingerprint(path) != listed.get(path.name):
            try:
                path.unlink()
            except OSError as error:
                raise PolicyError(f"{path}: is no engine that this machine built ({error.strerror})") from None
            _say(f"{path}: not what its manifest says, so it is removed; TensorRT builds its engine anew")


def _listed(folder: Path) -> dict[str, Any]:
    """What the manifest says; nothing where it is missing or none."""
    try:
        refuse_link(folder / _MANIFEST)
        files = read_json(folder / _MANIFEST).get("files")
    except MaskACTError:
        return {}
    return files if isinstance(files, dict) else {}


def _kept(folder: Path) -> list[Path]:
    """All that lies in the folder but our own two files."""
    return sorted(path for path in folder.iterdir() if path.name not in (_MANIFEST, _LOCK))


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
