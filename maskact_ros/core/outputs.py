"""What may be written where: the one place that decides whether something is in the way, or is ours to replace.

In: the path of an output, what kind of thing we write there, and what the command reads. Out: nothing, or one sentence
that names what is in the way. Ours is a folder whose marker we can read and whose every file is one that we write, and
a file that carries `MARK`. Nothing is ever written through a link.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import PathError, resolve_path

MARK = "made by maskact_ros"  # in the first or last bytes of each single file that we write for people
_LOOKED_AT = 4096  # bytes, at either end
_NAMED = 3  # things in the way that a sentence lists


class OutputError(MaskACTError):
    """An output that is not written, as something is in the way or the disk refuses: the text names it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of folder that we write whole, and how one of ours is told from everything else."""

    name: str  # with its article: "a dataset"
    marker: str  # a file that each has
    read: Callable[[Path], object]  # is given the folder; raises MaskACTError when its marker is not ours
    files: str  # regular expression of the relative paths that such a folder may have


def output_path(path: str | Path) -> Path:
    """An absolute path to write to: as `resolve_path`, but what stands there itself must not be a link.

    Links on the way to it are followed, as somebody's home may lie behind one.

    Raises:
        PathError, OutputError: it cannot be a path, or is a link.
    """
    try:
        given = Path(path).expanduser()
        if given.name in ("", ".."):
            return resolve_path(given)
        absolute = resolve_path(given.parent) / given.name
        resolve_path(absolute)  # that it can be reached
        refuse_link(absolute)
    except (RuntimeError, ValueError, OSError) as error:
        raise PathError(f"{str(path)!r} is no path ({error})") from None
    return absolute


def refuse_link(path: Path) -> None:
    """Raise OutputError where there is a link."""
    if path.is_symlink():
        raise OutputError(
            f"{path}: is a link to {path.readlink()}, and nothing is written through a link; allowed: the path that "
            "it leads to"
        )


def check_folder(folder: Path, kind: Kind, *, overwrite: bool, sources: Iterable[Path] = ()) -> None:
    """Raise OutputError unless nothing is there, or `overwrite` is set and all that is there is ours to replace.

    `sources` is what the command reads: neither it, nor a folder above or below it, is replaced.
    """
    refuse_link(folder)
    if not os.path.lexists(folder):
        return
    if reason := _source_in_the_way(folder, sources) or _not_ours(folder, kind):
        raise OutputError(
            f"{folder}: exists and {reason}, so it is not overwritten; allowed: a folder that is not there, or "
            f"{kind.name} of ours with nothing else in it"
        )
    if not overwrite:
        raise OutputError(f"{folder}: exists already; --overwrite replaces it")


def _source_in_the_way(folder: Path, sources: Iterable[Path]) -> str:
    folder = folder.resolve()
    for source in (resolve_path(path) for path in sources):
        if folder == source:
            return "is what is read"
        if folder in source.parents:
            return f"holds what is read, {source}"
        if source in folder.parents:
            return f"lies in what is read, {source}"
    return ""


def _not_ours(folder: Path, kind: Kind) -> str:
    """What speaks against replacing it; empty where it is all ours, or has nothing in it."""
    if not folder.is_dir():
        return f"is not {kind.name}"
    try:
        if not any(folder.iterdir()):
            return ""
        if not os.path.lexists(folder / kind.marker):
            return f"is not {kind.name}, as it has no {kind.marker}"
        refuse_link(folder / kind.marker)
        kind.read(folder)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except MaskACTError as error:
        return f"is not {kind.name} ({error})"
    others = sorted(_others(folder, re.compile(kind.files)))
    if not others:
        return ""
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"holds {', '.join(others[:_NAMED])}{more} beside {kind.name}"


def _others(folder: Path, ours: re.Pattern[str]) -> Iterator[str]:
    """Relative paths of what none of ours has: other files, links, sockets …"""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                shown = Path(entry.path).relative_to(folder).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not (entry.is_file(follow_symlinks=False) and ours.fullmatch(shown)):
                    yield shown


def carries_mark(path: Path) -> bool:
    """Whether `MARK` is at the beginning or the end of a file, or there is nothing in it; raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_LOOKED_AT)
        file.seek(max(0, size - _LOOKED_AT))
        return size == 0 or MARK.encode() in head + b"\n" + file.read(_LOOKED_AT)


def check_file(path: Path, what: str, is_ours: Callable[[Path], bool] = carries_mark) -> None:
    """Raise OutputError unless nothing is there, or an empty file, or one of ours; `what` is "a page", and so on."""
    refuse_link(path)
    if not os.path.lexists(path):
        if not path.parent.is_dir():
            raise OutputError(f"{path}: cannot be written, as there is no folder {path.parent}")
        return
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "is no file"
    else:
        try:
            reason = "" if is_ours(path) else f"is not {what} that maskact wrote"
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
    if reason:
        raise OutputError(f"{path}: exists and {reason}, so it is not overwritten; allowed: a file that is not there")


@contextmanager
def replaced_file(path: Path, what: str, *, ours: bool = False) -> Iterator[Path]:
    """A file to write, with `MARK` in it, which takes the place of `path` when the block ends well, and else vanishes.

    `ours` is for files that are known to be ours by where they are, or that a user asked us to change.

    Raises:
        OutputError: something else is there, or the disk refuses.
    """
    refuse_link(path) if ours else check_file(path, what)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        with partial.open("xb"):  # so that nobody's link of that name is followed
            pass
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        refuse_link(path) if ours else check_file(path, what)  # it took a while
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Write matplotlib's figure as a file of ours, in the format that its name ends in; raises OutputError."""
    name = "Software" if path.suffix == ".png" else "Creator"
    with replaced_file(path, "a picture") as partial:
        figure.savefig(partial, metadata={name: MARK}, **options)


def clear_partials(path: Path) -> None:
    """Remove what killed writers of a file left beside it; only for who is alone in writing it."""
    left = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{32}}{re.escape(path.suffix)}")
    for beside in list(path.parent.iterdir()):
        if left.fullmatch(beside.name) and not beside.is_dir():
            beside.unlink(missing_ok=True)


def open_own(path: Path) -> int:
    """A descriptor of a file to read, lock and append to; made if it is not there, not emptied if it is.

    Raises:
        OutputError: it is a link or no file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        refuse_link(path)
        raise OutputError(f"{path}: cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputError(f"{path}: is no file; allowed: a file, or nothing")
    return descriptor
