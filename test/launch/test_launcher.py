"""A process that a bringup started ends when the bringup is gone; one that was started by hand does not."""

import contextlib
import os
import select
import signal
import subprocess
import sys

import pytest

from maskact_ros.nodes.ros.launcher import LAUNCHER
from maskact_ros.nodes.ros.stop_request import StopRequest, end_signals

# A node that says how it fares; each of the programs below starts what comes after it on its command line.
NODE = """
import os, signal, sys, time
from maskact_ros.nodes.ros.launcher import Launcher
def asked(*_):
    print("asked", launcher.gone, flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, asked)
launcher = Launcher()
print("up", launcher.gone, os.getpid(), flush=True)
while not launcher.gone:
    signal.pause()
"""
STARTER = """
import os, signal, subprocess, sys
from maskact_ros.nodes.ros.launcher import launcher_variable
own = launcher_variable() if sys.argv[1] == "bringup" else {}
node = subprocess.Popen(sys.argv[2:], env=os.environ | own)
signal.pause()
"""


class Started:
    """A chain of programs, each the parent of the next, with a node as the last of them."""

    def __init__(self, *starters: tuple[str, ...]):
        command = [sys.executable, "-c", NODE]
        for starter in reversed(starters):
            command = [sys.executable, "-c", *starter, *command]
        environment = {name: value for name, value in os.environ.items() if name != LAUNCHER}
        self.first = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        self.up, self.gone, self.pid = self.says().split()

    def says(self, within_s: float = 60.0) -> str:
        """The next line of the node; empty when it has ended without one."""
        assert select.select([self.first.stdout], [], [], within_s)[0], "the node says nothing"
        return self.first.stdout.readline()

    def silent(self, seconds: float) -> bool:
        return not select.select([self.first.stdout], [], [], seconds)[0]

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of the chain may have ended
            os.killpg(self.first.pid, signal.SIGKILL)
        self.first.wait()
        self.first.stdout.close()


@pytest.fixture
def start():
    started = []

    def run(*starters):
        started.append(Started(*starters))
        return started[-1]

    yield run
    for chain in started:
        chain.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_node_is_asked_to_end_when_its_launcher_is_gone(start, number):
    chain = start((STARTER, "bringup"))
    assert (chain.up, chain.gone) == ("up", "False")
    chain.first.send_signal(number)
    assert chain.says() == "asked True\n"


def test_a_node_that_a_shell_started_does_not_end_with_it(start):
    chain = start((STARTER, "shell"))
    chain.first.kill()
    chain.first.wait()
    assert chain.silent(0.5)


def test_asked_by_somebody_else_a_node_knows_that_its_launcher_lives(start):
    chain = start((STARTER, "bringup"))
    os.kill(int(chain.pid), signal.SIGTERM)
    assert chain.says() == "asked False\n"


def test_a_command_between_launcher_and_node_counts_as_the_launcher(start):
    chain = start((STARTER, "bringup"), (STARTER, "shell"))
    assert (chain.up, chain.gone) == ("up", "False")
    assert chain.silent(0.2)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_node_finds_that_its_launcher_ended_before_it_looked(reaped):
    ended = subprocess.Popen(["true"])
    if reaped:
        ended.wait()
    else:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie, which still has its number
    try:
        node = subprocess.run(
            [sys.executable, "-c", NODE], env=os.environ | {LAUNCHER: str(ended.pid)}, capture_output=True, timeout=30
        )
    finally:
        ended.wait()
    assert node.stdout.startswith(b"up True "), node.stderr


@pytest.fixture
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_kill_and_a_terminal_that_closes_ask_for_the_end(handlers, number):
    stop = StopRequest()
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    assert stop.is_set()


def test_who_is_to_outlive_the_terminal_does(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a program
    assert signal.SIGHUP not in end_signals()
    stop = StopRequest()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.is_set()
