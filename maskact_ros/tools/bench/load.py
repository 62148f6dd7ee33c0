"""`CpuLoad`: keeps every core busy with matrix products, as inference on the CPU does.

As a program (`python -m maskact_ros.tools.bench.load`) it is one process of this load.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

from maskact_ros.tools.bench.children import end_with_parent

LOADS = ("none", "cpu")
_SIZE = 700  # of the matrices: a few milliseconds, and some megabytes of cache, for each product
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class CpuLoad:
    """A context manager: one process for each core, paused until `resume`; with the load `none`, no process at all."""

    def __init__(self, load: str) -> None:
        self._count = len(os.sched_getaffinity(0)) if load == "cpu" else 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "maskact_ros.tools.bench.load"]
        for _ in range(self._count):
            self._processes.append(
                subprocess.Popen(
                    command,
                    env=os.environ | _ONE_THREAD,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=end_with_parent,
                )
            )
        self.pause()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def pause(self) -> None:
        """Pause the load, such as while a process starts."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the load."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)


def main() -> None:
    """Multiply matrices for ever."""
    import numpy as np

    a = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)
    out = np.empty_like(a)
    while True:
        np.matmul(a, a, out=out)


if __name__ == "__main__":
    main()
