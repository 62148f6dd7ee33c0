"""Folders that are complete or absent, written under a temporary name and renamed; and those that one process holds."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskact_ros.core.errors import MaskACTError


class FolderError(MaskACTError):
    """A folder that cannot be written, or that is not to be replaced: the text names it."""


@contextmanager
def complete_or_absent(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder to write into, which becomes `folder` when the block ends well and vanishes when it does not.

    With it vanish the folders around it that it was made with.

    Raises:
        FolderError: `folder` exists and `overwrite` is not set, or the disk refuses.
    """
    if folder.exists() and not overwrite:
        raise FolderError(f"{folder}: exists already; --overwrite replaces it")
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    made = [parent for parent in folder.parents if not parent.exists()]  # the nearest first
    try:
        partial.mkdir(parents=True)
        yield partial
        reach_the_disk(partial)
        _rename(partial, folder)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty, as after success
                parent.rmdir()


@contextmanager
def alone(folder: Path, refusal: str) -> Iterator[None]:
    """Make a working folder, and hold it against others who would; raises FolderError with the sentence `refusal`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(path.stat(), os.fstat(lock.fileno()))
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:  # or the other one is just removing the folder
            raise FolderError(refusal)
        yield


def _rename(partial: Path, folder: Path) -> None:
    if folder.exists():
        replaced = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        folder.rename(replaced)
        partial.rename(folder)
        shutil.rmtree(replaced)
    else:
        partial.rename(folder)


def reach_the_disk(folder: Path) -> None:
    """Before a rename, which must not reach the disk before the content; raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
