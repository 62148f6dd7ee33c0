"""Ends nodes when their launcher is gone: a killed launcher (`ros2 launch` after SIGTERM) does not stop its nodes.

In: an environment variable that bringup sets for its processes. A node that is started by hand has none, so it does not
end with its shell. Out: SIGTERM from the kernel, and whether the launcher's end was the reason.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal

LAUNCHER = "MASKACT_LAUNCHER"  # the process id of the launcher
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def launcher_variable() -> dict[str, str]:
    """The variable for the environment of a process that must end when this one ends."""
    return {LAUNCHER: str(os.getpid())}


class Launcher:
    """The process that started this one, if it is a bringup. From construction on, its end sends us SIGTERM."""

    def __init__(self) -> None:
        launcher = os.environ.get(LAUNCHER, "")
        self._parent = 0
        if not launcher.isdecimal():
            return
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        self._parent = os.getppid()
        # The launcher may have ended before this. If a command such as a debugger started us, that command counts.
        if self._parent != int(launcher) and not _lives(int(launcher)):
            self._parent = -1

    @property
    def gone(self) -> bool:
        """Whether there was a launcher, and it has ended."""
        return self._parent != 0 and os.getppid() != self._parent


def _lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([process], [], [], 0)[0]
    finally:
        os.close(process)
