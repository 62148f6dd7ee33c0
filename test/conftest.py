"""What holds of all tests."""

import signal

import pytest


def pytest_configure():
    """Programs that tests start get the signals of a terminal, also where a script started pytest in the background.

    There a shell ignores SIGINT and SIGQUIT, nohup SIGHUP, and every program inherits that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem):
    """A crash of pytest itself ends the run: what its worker had still to do would be left out without a word."""
    pytest.exit(f"pytest crashed in {crashitem}", returncode=pytest.ExitCode.INTERNAL_ERROR)
