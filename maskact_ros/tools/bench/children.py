"""Starts the processes of a benchmark: they end with their parent, and have real-time rights or not."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from maskact_ros.control.realtime import LOOP_PRIORITY
from maskact_ros.core.errors import MaskACTError

SCHEDULERS = ("fifo", "normal")
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Ask to be killed when the parent ends; called in a new process, before its program."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _as_an_ordinary_user() -> None:
    """Give up the rights to SCHED_FIFO and to lock memory, even as root; called in a new process."""
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    for right in (_CAP_SYS_NICE, _CAP_IPC_LOCK):
        _libc.prctl(_PR_CAPBSET_DROP, right, 0, 0, 0)  # fails without the right: nothing to drop


_BEFORE: dict[str, Callable[[], None]] = {"fifo": end_with_parent, "normal": _as_an_ordinary_user}


def start(
    command: Sequence[str], log: Path, *, scheduler: str = "fifo", environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a program whose output goes to `log`; with the scheduler `normal` it cannot have another."""
    with log.open("w", encoding="utf-8") as out:
        return subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_BEFORE[scheduler],
        )


def stop(process: subprocess.Popen[str], within_s: float) -> None:
    """Send SIGTERM, and SIGKILL if the process has not ended within `within_s`."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_fifo() -> None:
    """Raise MaskACTError unless SCHED_FIFO is permitted here."""
    before, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(LOOP_PRIORITY))
    except PermissionError:
        raise MaskACTError("SCHED_FIFO is not permitted here; an rtprio limit for the user would permit it") from None
    os.sched_setscheduler(0, before, parameter)
