"""Folders that are complete or absent, written under a temporary name and renamed; and those that one process holds."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskact_ros.core.outputs import Kind, OutputError, check_folder, open_own, refuse_link

_HEX = "[0-9a-f]{32}"
_REPLACED = ".replaced"  # ends the name of a folder that is about to go


class FolderError(OutputError):
    """A folder that cannot be written: the text names it."""


@contextmanager
def complete_or_absent(
    folder: Path, kind: Kind, *, overwrite: bool = False, sources: Iterable[Path] = ()
) -> Iterator[Path]:
    """A new folder to write into, which becomes `folder` when the block ends well and vanishes when it does not.

    With it vanish the folders around it that it was made with. What is replaced stays until the new one is whole.

    Raises:
        OutputError: something is at `folder` that is not to be replaced, as `check_folder` says, or the disk refuses.
    """
    sources = tuple(sources)
    restore(folder)
    check_folder(folder, kind, overwrite=overwrite, sources=sources)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    made = [parent for parent in folder.parents if not parent.exists()]  # the nearest first
    try:
        partial.mkdir(parents=True)
        yield partial
        reach_the_disk(partial)
        check_folder(folder, kind, overwrite=overwrite, sources=sources)  # again, as writing may have taken hours
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
    """Make a working folder, and hold it against others who would; raises OutputError, such as with `refusal`."""
    refuse_link(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be made ({error.strerror})") from None
    path = folder / "lock"
    with os.fdopen(open_own(path), "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(path.stat(), os.fstat(lock.fileno()))
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:  # or the other one is just removing the folder
            raise FolderError(refusal)
        yield


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers of `folder` left beside it; only for who is alone in writing it.

    What a kill came between, the old one's going and the new one's coming, is undone: the old one is back.
    """
    restore(folder)
    left = re.compile(rf"\.{re.escape(folder.name)}\.{_HEX}({re.escape(_REPLACED)})?")
    if folder.parent.is_dir():
        for path in list(folder.parent.iterdir()):
            if left.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def restore(folder: Path) -> None:
    """Give a folder back that was about to be replaced when its process was killed."""
    if os.path.lexists(folder) or not folder.parent.is_dir():
        return
    left = re.compile(rf"\.{re.escape(folder.name)}\.{_HEX}{re.escape(_REPLACED)}")
    for path in folder.parent.iterdir():
        if left.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rename(folder)
            return


def _rename(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    replaced = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_REPLACED}")
    folder.rename(replaced)
    try:
        partial.rename(folder)
    except OSError:
        replaced.rename(folder)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def reach_the_disk(folder: Path) -> None:
    """Before a rename, which must not reach the disk before the content; raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
