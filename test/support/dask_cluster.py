"""A dask scheduler and worker processes on this machine, for tests."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

from distributed import Client

from maskact_ros.tools.bench.children import end_with_parent
from support.source_tree import ROOT

# As in `shared_work`, whose functions the workers import.
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")])


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Cluster:
    """The scheduler of `address`, and its workers as processes, which a test may kill."""

    def __init__(self, log, **environment: str) -> None:
        self._log, self._processes = log, []
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start("dask_scheduler", "--port", str(port), **environment)

    def add_workers(self, number: int, *options: str, **environment: str) -> list[subprocess.Popen]:
        """Start them, and return when they are there."""
        threads = () if "--nthreads" in options else ("--nthreads", "1")
        words = ("dask_worker", self.address, "--no-nanny", *threads, *options)
        started = [self._start(*words, **environment) for _ in range(number)]
        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=60)
        return started

    @property
    def workers(self) -> list[subprocess.Popen]:
        """Those that are alive, the oldest first."""
        return [process for process in self._processes[1:] if process.poll() is None]

    def _start(self, program: str, *options: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", "--host", "127.0.0.1", "--no-dashboard", *options],
            cwd="/",  # from which nothing can be imported
            env=os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"} | environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # a test's Ctrl-C is not theirs
            preexec_fn=end_with_parent,
        )
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@contextmanager
def cluster(folder, **environment: str):
    """A scheduler without workers; its log, and that of its workers, is in the folder."""
    with (folder / "cluster.log").open("ab") as log:
        made = Cluster(log, **environment)
        try:
            yield made
        finally:
            made.end()
