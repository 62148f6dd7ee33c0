"""Which files a bag has: those that metadata.yaml lists, or all of its folder; of one bag, or of several together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import read_yaml
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.data.bags.recorded_message import BagError

KINDS = (".mcap", ".db3")
TOGETHER = "+"  # between bags of one recording


@dataclass(frozen=True)
class BagFiles:
    """A bag's files in their order, and what is to be said of others."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def files_of(path: Path) -> BagFiles:
    """The files of a bag, or of several that `A+B` names; raises BagError when there are none."""
    found = [_files_of_one(part) for part in parts_of(path)]
    return BagFiles(
        tuple(file for one in found for file in one.files), tuple(note for one in found for note in one.notes)
    )


def parts_of(path: Path) -> list[Path]:
    """The bags that a path names: `A+B` are two of one recording, unless there is something of that name."""
    path = resolve_path(path)
    if path.exists() or TOGETHER not in str(path):
        return [path]
    return [resolve_path(part) for part in str(path).split(TOGETHER) if part]


def bags_in(path: str | Path) -> list[Path]:
    """The bag at a path or, where that is a folder of bags, each of them; raises BagError when there is none."""
    parts = parts_of(Path(path))
    for part in parts:
        if not part.exists():
            raise BagError(f"{part}: there is no such bag")
    if len(parts) > 1:
        return [Path(TOGETHER.join(str(part) for part in parts))]
    path = parts[0]
    if path.is_file() or any(kind_of(file) for file in path.iterdir()):
        return [path]
    inside = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    found = sorted(folder for folder in inside if any(kind_of(file) for file in folder.iterdir()))
    if not found:
        raise BagError(f"{path}: holds no bag; allowed: a rosbag2 folder, a folder of such, an .mcap or a .db3 file")
    return found


def kind_of(file: Path) -> str:
    """`.mcap` or `.db3`, compressed or not; empty for anything else."""
    suffixes = file.suffixes[-2:] if file.suffix == ".zstd" else file.suffixes[-1:]
    return suffixes[0] if suffixes and suffixes[0] in KINDS else ""


def _files_of_one(path: Path) -> BagFiles:
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(
                f"{path}: a bag of ROS 1; rosbags-convert --src {path.name} --dst {path.stem} makes one of ROS 2 of it"
            )
        if not kind_of(path):
            raise BagError(
                f"{path}: not a bag; allowed: a rosbag2 folder, or a file .mcap, .db3, .mcap.zstd, .db3.zstd"
            )
        return BagFiles((path,))
    found = [file for file in path.iterdir() if file.is_file() and kind_of(file)]
    # A file that was compressed beside its original is the same one.
    found = sorted((f for f in found if not (f.suffix == ".zstd" and f.with_suffix("") in found)), key=_number)
    if not found:
        raise BagError(f"{path}: holds no .mcap and no .db3 file")
    return _listed(path, found)


def _listed(folder: Path, found: list[Path]) -> BagFiles:
    """Those of the files found that metadata.yaml lists; all of them where there is none, or none of its files."""
    names = _names(folder / "metadata.yaml")
    known = {_plain(file): file for file in found}
    listed = [known[name] for name in names if name in known]
    if not listed:
        return BagFiles(tuple(found))
    notes = [f"{name}: metadata.yaml lists it, but it is missing" for name in names if name not in known]
    later = [file for file in found if file not in listed and _continues(file, listed)]
    # A recorder that was killed has not listed its last file yet.
    left_out = [file for file in found if file not in listed and file not in later]
    notes += [f"{file.name}: metadata.yaml does not list it, so it is left out" for file in left_out]
    return BagFiles((*listed, *later), tuple(notes))


def topics_of_metadata(path: Path) -> dict[str, str] | None:
    """Topics and their types as metadata.yaml tells them; None where it does not."""
    entries = _information(path / "metadata.yaml").get("topics_with_message_count")
    if not isinstance(entries, list):
        return None
    topics = [entry.get("topic_metadata") for entry in entries if isinstance(entry, Mapping)]
    found = [(topic.get("name"), topic.get("type")) for topic in topics if isinstance(topic, Mapping)]
    return {name: kind for name, kind in found if isinstance(name, str) and isinstance(kind, str)} or None


def _information(path: Path) -> Mapping[str, Any]:
    """What stands in metadata.yaml; nothing where it is missing or damaged."""
    try:
        values: Any = read_yaml(path) if path.is_file() else None
    except MaskACTError:
        return {}
    told = values.get("rosbag2_bagfile_information") if isinstance(values, Mapping) else None
    return told if isinstance(told, Mapping) else {}


def _names(path: Path) -> list[str]:
    """Names of files, without .zstd and without folders, which older recorders put before them."""
    names = _information(path).get("relative_file_paths")
    if not isinstance(names, list):
        return []
    return list(dict.fromkeys(_plain(Path(name)) for name in names if isinstance(name, str)))


def _plain(file: Path) -> str:
    return file.name.removesuffix(".zstd")


def _continues(file: Path, listed: list[Path]) -> bool:
    """Whether a file has the next numbers of a recording that was split: bag_0, bag_1, …"""
    numbers = [_split_number(other) for other in listed]
    base, number = _split_number(file)
    of_base = [known for name, known in numbers if name == base]
    return number is not None and bool(of_base) and all(known is not None and known < number for known in of_base)


def _split_number(file: Path) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*)_(\d{1,9})", _plain(file).rsplit(".", 1)[0])
    return (found[1], int(found[2])) if found else (_plain(file), None)


def _number(file: Path) -> list[object]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
