"""What processes use, from /proc: memory, threads, open files, and the shared memory of DDS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of one process at one moment."""

    memory_mib: float  # resident
    threads: int
    files: int  # open descriptors
    shm_entries: frozenset[str]  # files in /dev/shm that it has mapped

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Now; raises OSError when the process is gone."""
        process = Path(f"/proc/{pid}")
        resident = int((process / "statm").read_text(encoding="ascii").split()[1])
        maps = (process / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
        mapped = (line.partition("/dev/shm/")[2] for line in maps)  # noqa: S108 - only a name to look for
        return cls(
            memory_mib=resident * _PAGE_MIB,
            threads=len(os.listdir(process / "task")),
            files=len(os.listdir(process / "fd")),
            shm_entries=frozenset(name for name in mapped if name),
        )


def children(module: str) -> dict[str, int]:
    """This process's own children that run `python -m MODULE.NAME`: process id by NAME."""
    found: dict[str, int] = {}
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text(encoding="ascii").split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            names = (word.removeprefix(f"{module}.") for word in words if word.startswith(f"{module}."))
            found |= {name: int(pid) for name in names}
    return found


def slope_per_hour(at_s: NDArray[np.float64], values: NDArray[np.float64]) -> float | None:
    """The slope of a straight line through the values (N,) at these seconds (N,), per hour; None for fewer than 3."""
    if len(at_s) < 3:
        return None
    return float(np.polyfit(at_s, values, 1)[0] * 3600)
