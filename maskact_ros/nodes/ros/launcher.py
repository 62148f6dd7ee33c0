"""Nodes end when their launcher is gone: one that is killed, as `ros2 launch` is by SIGTERM, stops nobody.

In: an environment variable that a bringup gives to its processes; a node that is started by hand has none, and does not
end with its shell. Out: SIGTERM from the kernel, and whether that was why.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal

LAUNCHER = "MASKACT_LAUNCHER"  # the process id of whoever started this process by a bringup
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def launcher_variable() -> dict[str, str]:
    """What to add to the environment of a process that is to end when this one does."""
    return {LAUNCHER: str(os.getpid())}


class Launcher:
    """Whoever started this process, if a bringup did: from when it is made, its end is a SIGTERM for us."""

    def __init__(self) -> None:
        launcher = os.environ.get(LAUNCHER, "")
        self._parent = 0
        if not launcher.isdecimal():
            return
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        self._parent = os.getppid()
        # It may have ended before that; or a command such as a debugger lies between, and it is that which counts.
        if self._parent != int(launcher) and not _lives(int(launcher)):
            self._parent = -1

    @property
    def gone(self) -> bool:
        """Whether there was one, and it has ended."""
        return self._parent != 0 and os.getppid() != self._parent


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for is there, but does not."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([process], [], [], 0)[0]
    finally:
        os.close(process)
